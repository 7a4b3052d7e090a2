// The page follows what is open. Keys judge the marked situation, the one with the focus: C confirms, D dismisses.
const PERIOD_MS = 1000;
const MARKED = "marked situation"; // over a reload
const articles = [...document.querySelectorAll("[data-situation]")];
const states = (open) => open.map(({ id, confirmed_by }) => `${id} ${confirmed_by ?? ""}`).join();
const shown = states(articles.map(({ dataset }) => ({ id: dataset.situation, confirmed_by: dataset.confirmed })));

async function follow() {
  try {
    const answer = await fetch("/api/site");
    if (answer.status === 401) location.assign("/login");
    const { situations } = await answer.json();
    if (states(situations) !== shown && !document.querySelector(".situation :focus")) location.reload();
  } catch {
    // the next round asks again
  }
  setTimeout(follow, PERIOD_MS);
}

const marked = () => document.activeElement.closest("[data-situation]") ?? (articles.length === 1 ? articles[0] : null);

function step(by) {
  const next = articles[Math.max(0, Math.min(articles.length - 1, articles.indexOf(marked()) + by))];
  next?.focus();
}

document.addEventListener("focusin", () => sessionStorage.setItem(MARKED, marked()?.dataset.situation ?? ""));
document.addEventListener("keydown", (event) => {
  const { key, ctrlKey, metaKey, altKey, target } = event;
  if (ctrlKey || metaKey || altKey || target.matches("input, select, textarea")) return;
  if (key === "ArrowDown") step(1);
  else if (key === "ArrowUp") step(-1);
  else marked()?.querySelector(`[data-key="${CSS.escape(key.toLowerCase())}"]`)?.click();
  if (key.startsWith("Arrow") && articles.length) event.preventDefault();
});

articles.find(({ dataset }) => dataset.situation === sessionStorage.getItem(MARKED))?.focus();
follow();
