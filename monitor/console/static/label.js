// The label page: hold pictures, draw boxes on a few of them, name the animal, read the report card.
const csrf = document.querySelector('meta[name="csrf"]').content;
const source = document.querySelector("#source");
const lesson = document.querySelector("#lesson");
const canvas = document.querySelector("#picture");
const slider = document.querySelector("#step");
const report = document.querySelector("#report");
const pen = canvas.getContext("2d");
const LEAST_PX = 3; // a shorter drag is a click
const LONGEST_CLIP_S = 1e6; // a smaller time is one of a recording, a larger one of the day
const NUDGE = 0.01; // of the picture's width, by key
const JSON_BODY = { "content-type": "application/json" };
const YELLOW = "#f5b301", BLUE = "#4da3ff";

let pictures = []; // {camera, number, at, size, boxes}
let at = 0;
let image = null;
let labels = []; // {camera, number, box: [x, y, w, h] in the camera's pixels, thumb}; a picture may have several
let chosen = null; // the label of this picture that keys move and remove
let drawn = null; // the box that is being dragged

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { "x-csrf-token": csrf, ...options.headers } });
  if (answer.status === 401) location.assign("/login");
  const told = answer.headers.get("content-type")?.includes("json") ? await answer.json() : { error: await answer.text() };
  if (!answer.ok) throw new Error(told.error);
  return told;
}

const here = () => labels.filter(({ camera, number }) => camera === pictures[at].camera && number === pictures[at].number);
const scale = () => canvas.width / pictures[at].size[0];

function tell(text, kind = "error") {
  report.replaceChildren(Object.assign(document.createElement("p"), { className: kind, textContent: text }));
}

// Pictures

function take(found, nothing) {
  if (!found.length) {
    tell(nothing);
    return;
  }
  pictures = found;
  report.replaceChildren();
  document.querySelector("#hint").hidden = true;
  document.querySelector("#desk").hidden = false;
  slider.max = pictures.length - 1;
  go(pictures.length - 1);
}

async function go(index) {
  at = Math.max(0, Math.min(pictures.length - 1, index));
  slider.value = at;
  const picture = pictures[at];
  const when = picture.at < LONGEST_CLIP_S ? `${picture.at.toFixed(1)} s` : new Date(1000 * picture.at).toLocaleTimeString();
  document.querySelector("#when").textContent = `${picture.camera} ${when} · ${at + 1} of ${pictures.length}`;
  const answer = await fetch(`/api/held/${encodeURIComponent(picture.camera)}/${picture.number}`);
  if (!answer.ok) {
    tell("That picture is not held any more: hold the camera again.");
    return;
  }
  const loaded = await createImageBitmap(await answer.blob());
  if (picture !== pictures[at]) return; // somebody has stepped on meanwhile
  image = loaded;
  chosen = here().at(-1) ?? null;
  suggest(picture.boxes);
  paint();
  canvas.dataset.shown = at;
}

function suggest(boxes) {
  const offers = boxes.map(({ box, called, p_animal }, index) => {
    const text = `${index + 1}: ${called}, an animal at ${Math.round(100 * p_animal)} %`;
    const offer = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: text });
    offer.addEventListener("click", () => add(box));
    return offer;
  });
  document.querySelector("#suggested").replaceChildren(...offers);
}

function paint() {
  if (!image || !pictures.length) return;
  canvas.width = image.width;
  canvas.height = image.height;
  pen.drawImage(image, 0, 0);
  const width = Math.max(2, image.width / 400);
  pen.font = `600 ${Math.max(14, image.width / 60)}px system-ui, sans-serif`;
  pen.lineWidth = width;
  pictures[at].boxes.forEach(({ box: [x, y, w, h] }, index) => {
    pen.setLineDash([3 * width, 3 * width]);
    pen.strokeStyle = pen.fillStyle = BLUE;
    pen.strokeRect(x * scale(), y * scale(), w * scale(), h * scale());
    pen.fillText(`${index + 1}`, x * scale(), Math.max(18, y * scale() - 2 * width));
  });
  pen.setLineDash([]);
  pen.strokeStyle = YELLOW;
  for (const { box, thick } of [...here().map((label) => ({ box: label.box, thick: label === chosen })), { box: drawn, thick: true }]) {
    if (!box) continue;
    pen.lineWidth = (thick ? 2 : 1) * width;
    pen.strokeRect(...box.map((value) => value * scale()));
  }
}

// Boxes

function clipped([x, y, w, h]) {
  const [width, height] = pictures[at].size;
  const left = Math.max(0, Math.min(x, width - LEAST_PX)), top = Math.max(0, Math.min(y, height - LEAST_PX));
  return [left, top, Math.max(LEAST_PX, Math.min(x + w, width) - left), Math.max(LEAST_PX, Math.min(y + h, height) - top)];
}

function change(label, box) {
  label.box = clipped(box);
  const [x, y, w, h] = label.box.map((value) => value * scale());
  const side = Math.max(w, h);
  label.thumb.getContext("2d").clearRect(0, 0, label.thumb.width, label.thumb.height);
  label.thumb.getContext("2d").drawImage(image, x + w / 2 - side / 2, y + h / 2 - side / 2, side, side, 0, 0, label.thumb.width, label.thumb.height);
  choose(label);
}

function add(box) {
  const { camera, number } = pictures[at];
  const same = here().find((label) => label.box.join() === clipped(box).join());
  if (same) {
    choose(same);
    return;
  }
  const label = { camera, number, thumb: Object.assign(document.createElement("canvas"), { width: 96, height: 96 }) };
  labels.push(label);
  change(label, box);
}

function choose(label) {
  chosen = label;
  paint();
  list();
}

function drop(label) {
  labels = labels.filter((one) => one !== label);
  choose(label === chosen ? (here().at(-1) ?? null) : chosen);
}

function clear() {
  labels = [];
  choose(null);
}

function list() {
  const items = labels.map((label, index) => {
    const { camera, number, thumb, box } = label;
    const item = document.createElement("li");
    const remove = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: "✕" });
    remove.setAttribute("aria-label", `Remove box ${index + 1}, ${camera} ${number}`);
    remove.addEventListener("click", () => drop(label));
    item.title = `${camera} ${number}: ${Math.round(box[2])} x ${Math.round(box[3])} pixels`;
    item.append(thumb, remove);
    return item;
  });
  document.querySelector("#labels").replaceChildren(...items);
  const count = labels.length;
  const advice = count < 3 ? "three to five are good" : count < 5 ? "good; five are better" : "enough to begin with";
  document.querySelector("#count").textContent = count ? `${count}, ${advice}` : "none yet";
  for (const button of lesson.querySelectorAll("button")) button.disabled = !count;
}

function point(event) {
  const frame = canvas.getBoundingClientRect();
  const ratio = pictures[at].size[0] / frame.width;
  return [(event.clientX - frame.left) * ratio, (event.clientY - frame.top) * ratio];
}

let corner = null;
canvas.addEventListener("pointerdown", (event) => {
  corner = point(event);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!corner) return;
  const [x, y] = point(event);
  drawn = clipped([Math.min(x, corner[0]), Math.min(y, corner[1]), Math.abs(x - corner[0]), Math.abs(y - corner[1])]);
  paint();
});
canvas.addEventListener("pointerup", (event) => {
  const [x, y] = point(event);
  const moved = corner && Math.max(Math.abs(x - corner[0]), Math.abs(y - corner[1])) > LEAST_PX;
  const box = drawn;
  corner = drawn = null;
  if (moved) add(box);
  else choose(here().findLast(({ box: [left, top, w, h] }) => x >= left && x <= left + w && y >= top && y <= top + h) ?? chosen);
});
canvas.addEventListener("pointercancel", () => {
  corner = drawn = null;
  paint();
});

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function nudge([dx, dy], resize) {
  const step = NUDGE * pictures[at].size[0];
  const [x, y, w, h] = chosen.box;
  change(chosen, resize ? [x, y, w + dx * step, h + dy * step] : [x + dx * step, y + dy * step, w, h]);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey && event.key === "Enter") {
    event.preventDefault();
    lesson.requestSubmit();
    return;
  }
  if (!pictures.length || event.target.matches("input:not([type=range]), select, textarea")) return;
  const arrow = ARROWS[event.key];
  if (arrow && event.altKey && chosen) nudge(arrow, event.shiftKey);
  else if (event.key === "ArrowLeft") go(at - 1);
  else if (event.key === "ArrowRight") go(at + 1);
  else if (event.key === "Home") go(0);
  else if (event.key === "End") go(pictures.length - 1);
  else if (event.key === "b" || event.key === "B") {
    const [width, height] = pictures[at].size;
    add([0.4 * width, 0.4 * height, 0.2 * width, 0.2 * height]);
  } else if (event.key >= "1" && event.key <= "9") {
    const suggested = pictures[at].boxes[Number(event.key) - 1];
    if (suggested) add(suggested.box);
  } else if (event.key === "n" || event.key === "N") choose(here()[(here().indexOf(chosen) + 1) % here().length] ?? null);
  else if ((event.key === "Delete" || event.key === "Backspace") && chosen) drop(chosen);
  else return;
  event.preventDefault();
});

slider.addEventListener("input", () => go(Number(slider.value)));
document.querySelector("#back").addEventListener("click", () => go(at - 1));
document.querySelector("#on").addEventListener("click", () => go(at + 1));

async function hold(path, nothing, body) {
  try {
    const headers = body ? JSON_BODY : {};
    take((await ask(path, { method: "POST", body: body && JSON.stringify(body), headers })).pictures, nothing);
    canvas.focus();
  } catch (error) {
    tell(error.message);
  }
}

source.addEventListener("submit", (event) => {
  event.preventDefault();
  const camera = encodeURIComponent(source.camera.value);
  hold(`/api/hold/${camera}`, "There is no picture of that camera in the last half minute.");
});

document.querySelector("#recording")?.addEventListener("submit", (event) => {
  event.preventDefault();
  const { name, from_s } = event.target.elements;
  tell("Reading it …", "faint");
  hold("/api/recording", "The recording ends before that.", { name: name.value, from_s: Number(from_s.value) });
});

document.querySelector("#worthiest").addEventListener("click", () =>
  hold("/api/hold", "Nothing has passed yet that a label would help with."));

source.picture.addEventListener("change", async () => {
  const body = new FormData();
  for (const file of source.picture.files) body.append("picture", file);
  source.picture.value = "";
  try {
    const { pictures: taken, refused } = await ask("/api/upload", { method: "POST", body });
    if (taken.length) take(taken);
    if (refused.length) tell(refused.map(({ image: name, why }) => `${name}: ${why}`).join("; "));
  } catch (error) {
    tell(error.message);
  }
});

// The lesson

lesson.name.addEventListener("input", () => {
  const known = document.querySelector(`#known option[value="${CSS.escape(lesson.name.value)}"]`);
  if (!known) return;
  lesson.size.value = known.dataset.size; // alerts are coded by them: they stay
  lesson.origin.value = known.dataset.origin;
  lesson.herd.checked = known.dataset.herd === "true";
});

function row(term, text) {
  const name = Object.assign(document.createElement("dt"), { textContent: term });
  return [name, Object.assign(document.createElement("dd"), { textContent: text })];
}

const shares = (found) => Object.entries(found).map(([name, share]) => `${name} ${Math.round(100 * share)} %`).join(", ");

function show({ class: name, version, frames, used, refused, seconds, report: card, held_back }, live) {
  const state = held_back ? "was held back" : live ? "is live" : "is kept, not live";
  const head = Object.assign(document.createElement("h2"), { textContent: `${name} ${state}` });
  const facts = document.createElement("dl");
  if (held_back) facts.append(...row("Why", held_back));
  facts.append(...row("Version", `${version}, after ${seconds.toFixed(2)} s`), ...row("Frames", `${used} of ${frames} used`));
  for (const { image: which, why } of refused) facts.append(...row("Refused", `${which}: ${why}`));
  const found = card.leave_one_out === null ? "one frame only: nothing to compare" : `${Math.round(100 * card.leave_one_out)} % of its frames`;
  facts.append(...row("Found again", found));
  if (Object.keys(card.confused_with).length) facts.append(...row("Taken for", shares(card.confused_with)));
  if (Object.keys(card.nearest).length) facts.append(...row("Most alike", shares(card.nearest)));
  for (const wish of card.missing) facts.append(...row("Would help", wish));
  report.replaceChildren(head, facts);
}

const drawnBoxes = () => labels.map(({ camera, number, box }) => ({ camera, number, box }));

document.querySelector("#check").addEventListener("click", async () => {
  const name = lesson.name.value.trim();
  if (!name) {
    tell("Name what the frames show; “none” where it is no animal.");
    return;
  }
  try {
    const body = JSON.stringify({ name, labels: drawnBoxes() });
    const { taken, refused, frames } = await ask("/api/golden", { method: "POST", body, headers: JSON_BODY });
    const left = refused.map(({ image: which, why }) => ` ${which}: ${why}.`).join("");
    tell(`${taken} frames of ${name} check every new version from now on; there are ${frames}.${left}`, "done");
    clear();
  } catch (error) {
    tell(error.message);
  }
});

async function refute(name) {
  try {
    const body = JSON.stringify({ name, labels: drawnBoxes() });
    const told = await ask("/api/refute", { method: "POST", body, headers: JSON_BODY });
    const head = Object.assign(document.createElement("h2"), { textContent: told.held_back ? "It was held back" : "It is known now" });
    const facts = document.createElement("dl");
    if (told.held_back) facts.append(...row("Why", told.held_back));
    facts.append(...row("Version", told.version), ...row("Frames", `${told.used} of ${told.frames} used`));
    for (const { image: which, why } of told.refused) facts.append(...row("Refused", `${which}: ${why}`));
    const what = name === "none" ? "An animal" : name;
    if (told.before === null) facts.append(...row("How sure", "one frame only: a second one tells how far it reaches"));
    else facts.append(...row(what, `${Math.round(100 * told.before)} % before, ${Math.round(100 * told.after)} % now, in each frame by what was said of the others`));
    report.replaceChildren(head, facts);
    clear();
  } catch (error) {
    tell(error.message);
  }
}

async function note(path, body) {
  try {
    const { recording, visits } = await ask(path, { method: "POST", body: JSON.stringify(body), headers: JSON_BODY });
    const told = visits === 1 ? "one visit" : `${visits || "no"} visits`;
    tell(`Noted for the acceptance: ${recording} has ${told}.`, "done");
    if (visits) clear();
  } catch (error) {
    tell(error.message);
  }
}

document.querySelector("#visit")?.addEventListener("click", () => {
  const name = lesson.name.value.trim();
  if (name) note("/api/visit", { name, labels: drawnBoxes() });
  else tell("Name the animal.");
});
document.querySelector("#empty")?.addEventListener("click", () =>
  note("/api/no-visit", { recording: document.querySelector("#recording").elements.name.value }));

document.querySelector("#nothing").addEventListener("click", () => refute("none"));
document.querySelector("#not").addEventListener("click", () => {
  const name = lesson.name.value.trim();
  if (name) refute(name);
  else tell("Name the class that the frames do not show.");
});

lesson.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!labels.length) return;
  const button = document.querySelector("#teach");
  button.disabled = true;
  const body = JSON.stringify({
    name: lesson.name.value.trim(),
    size: lesson.size.value,
    origin: lesson.origin.value,
    scientific_name: lesson.scientific_name.value.trim() || null,
    herd: lesson.herd.checked,
    display_name: lesson.display_name.value.trim() || null,
    labels: drawnBoxes(),
    live: !lesson.later.checked,
  });
  try {
    show(await ask("/api/teach", { method: "POST", body, headers: JSON_BODY }), !lesson.later.checked);
    clear();
  } catch (error) {
    tell(error.message);
    button.disabled = false;
  }
});

list();
