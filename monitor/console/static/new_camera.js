// Another camera: its address is tested, its picture shown, and only then it can be added.
const csrf = document.querySelector('meta[name="csrf"]').content;
const form = document.querySelector("#new-camera");
const test = document.querySelector("#test"), add = document.querySelector("#add");
const first = document.querySelector("#first"), found = document.querySelector("#found");
const name = document.querySelector("#name"), url = document.querySelector("#url");

function tell(text, kind) {
  found.textContent = text;
  found.className = kind;
}

function unknown() {
  add.disabled = true;
  first.hidden = true;
  document.querySelector("#nothing-yet").hidden = false;
}

async function ask() {
  if (!form.reportValidity()) return;
  unknown();
  test.disabled = true;
  tell("Asking the camera; that can take a quarter of a minute …", "faint");
  try {
    const body = JSON.stringify({ name: name.value, url: url.value });
    const answer = await fetch("/api/new-camera", { method: "POST", body, headers: { "x-csrf-token": csrf, "content-type": "application/json" } });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    first.src = `/api/new-camera?${Date.now()}`;
    first.hidden = false;
    document.querySelector("#nothing-yet").hidden = true;
    tell(`${told.size.join(" × ")} pixels, ${Math.round(told.fps)} pictures a second.`, "done");
    add.disabled = false;
  } catch (error) {
    tell(error.message, "error");
  } finally {
    test.disabled = false;
  }
}

test.addEventListener("click", ask);
form.addEventListener("input", () => {
  unknown();
  tell("Nothing is tested yet.", "");
});
form.addEventListener("submit", (event) => {
  if (!add.disabled) return;
  event.preventDefault(); // Enter in a field
  ask();
});
