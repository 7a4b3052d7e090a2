// The page follows what is open, and one key judges the newest situation: C confirms, D dismisses.
const PERIOD_MS = 1000;
const shown = () => [...document.querySelectorAll("[data-situation]")].map((one) => one.dataset.situation);

async function follow() {
  try {
    const answer = await fetch("/api/site");
    if (answer.status === 401) location.assign("/login");
    const { situations } = await answer.json();
    if (situations.join() !== shown().join() && !document.querySelector(".situation :focus")) location.reload();
  } catch {
    // the next round asks again
  }
  setTimeout(follow, PERIOD_MS);
}

document.addEventListener("keydown", ({ key, ctrlKey, metaKey, altKey, target }) => {
  if (ctrlKey || metaKey || altKey || target.matches("input, select, textarea")) return;
  document.querySelector(`.situation:last-of-type [data-key="${CSS.escape(key.toLowerCase())}"]`)?.click();
});

follow();
