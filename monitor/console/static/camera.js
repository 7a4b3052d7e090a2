// The camera page: zones and masks over the newest picture, new ones drawn by their corners, and saved, or told as lines of config.toml.
const page = document.querySelector("[data-camera]");
const canvas = document.querySelector("#plan");
const form = document.querySelector("#shape");
const csrf = document.querySelector('meta[name="csrf"]').content;
const save = document.querySelector("#save"); // an administrator's only
const finish = document.querySelector("#finish"), undo = document.querySelector("#undo");
const LEAST_CORNERS = 3;
const pen = canvas.getContext("2d");
const COLOURS = { carriageway: "#f5b301", verge: "#66d18f", crossing: "#6db3f8", pavement: "#c9a0ff", other: "#ffffff", mask: "#ff6b60" };

const shapes = JSON.parse(page.dataset.shapes); // {id, kind, points}
let image = null;
let size = [640, 360]; // of the camera's own picture
let drawing = null;

async function fetchPicture() {
  const name = page.dataset.camera;
  const [site, picture] = await Promise.all([fetch("/api/site"), fetch(`/api/live/${encodeURIComponent(name)}`)]);
  document.querySelector("#trouble").hidden = picture.ok;
  if (!picture.ok) return;
  size = (await site.json()).cameras[name]?.size ?? size;
  image = await createImageBitmap(await picture.blob());
  paint();
}

function outline({ kind, points, id }, open) {
  if (!points.length) return;
  const scale = canvas.width / size[0];
  pen.strokeStyle = pen.fillStyle = COLOURS[kind];
  pen.lineWidth = 3;
  pen.beginPath();
  points.forEach(([x, y], index) => pen[index ? "lineTo" : "moveTo"](x * scale, y * scale));
  if (!open) pen.closePath();
  pen.stroke();
  pen.globalAlpha = kind === "mask" ? 0.45 : 0.15;
  if (!open) pen.fill();
  pen.globalAlpha = 1;
  for (const [x, y] of open ? points : []) pen.fillRect(x * scale - 3, y * scale - 3, 6, 6);
  pen.font = "600 16px system-ui, sans-serif";
  pen.fillText(id, points[0][0] * scale + 6, points[0][1] * scale + 18);
}

function paint() {
  if (image) {
    canvas.width = image.width;
    canvas.height = image.height;
    pen.drawImage(image, 0, 0);
  }
  for (const shape of shapes) outline(shape, false);
  if (drawing) outline(drawing, true);
  list();
}

const rounded = (points) => points.map((point) => point.map(Math.round));

const drawn = () => ({
  masks_px: shapes.filter(({ kind }) => kind === "mask").map(({ points }) => rounded(points)),
  zones: shapes.filter(({ kind }) => kind !== "mask").map(({ id, kind, points }) => ({ id, kind, polygon_px: rounded(points) })),
});

function toml() {
  const { masks_px, zones } = drawn();
  const lines = zones.map(({ id, kind, polygon_px }) => `  { id = "${id}", kind = "${kind}", polygon_px = ${JSON.stringify(polygon_px)} },\n`);
  return `masks_px = ${JSON.stringify(masks_px)}\nzones = [\n${lines.join("")}]\n`;
}

let kept = JSON.stringify(drawn()); // as it is in the file

function tell(text, kind) {
  const saved = document.querySelector("#saved");
  saved.textContent = text;
  saved.className = kind;
}

async function saveShapes() {
  const body = JSON.stringify(drawn());
  save.disabled = true;
  tell("Saving …", "faint");
  try {
    const headers = { "x-csrf-token": csrf, "content-type": "application/json" };
    const answer = await fetch(`/api/cameras/${encodeURIComponent(page.dataset.camera)}/shapes`, { method: "POST", body, headers });
    if (!answer.ok) throw new Error((await answer.json()).error);
    kept = body;
    tell("Saved, and in force.", "done");
  } catch (error) {
    tell(error.message, "error");
  }
  list();
}

function list() {
  const items = shapes.map((shape, index) => {
    const item = Object.assign(document.createElement("li"), { textContent: `${shape.id}, ${shape.kind} ` });
    const remove = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: "✕" });
    remove.setAttribute("aria-label", `Remove ${shape.id}`);
    remove.addEventListener("click", () => {
      shapes.splice(index, 1);
      paint();
    });
    item.append(remove);
    return item;
  });
  document.querySelector("#shapes").replaceChildren(...items);
  document.querySelector("#toml").value = toml();
  if (save) save.disabled = drawing !== null || JSON.stringify(drawn()) === kept;
  finish.disabled = !drawing || drawing.points.length < LEAST_CORNERS;
  undo.disabled = !drawing?.points.length;
}

function end() {
  if (drawing && drawing.points.length >= LEAST_CORNERS) shapes.push(drawing);
  drawing = null;
  paint();
}

function takeBack() {
  drawing.points.pop();
  paint();
}

finish.addEventListener("click", end);
undo.addEventListener("click", takeBack);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  drawing = { id: form.elements.kind.value === "mask" ? "mask" : form.elements.id.value, kind: form.elements.kind.value, points: [] };
  canvas.focus();
  paint();
});

canvas.addEventListener("pointerdown", ({ clientX, clientY }) => {
  if (!drawing) return;
  const frame = canvas.getBoundingClientRect();
  const ratio = size[0] / frame.width;
  drawing.points.push([(clientX - frame.left) * ratio, (clientY - frame.top) * ratio]);
  paint();
});

canvas.addEventListener("keydown", (event) => {
  if (event.key === "Enter") end();
  else if (event.key === "Backspace" && drawing) takeBack();
  else return;
  event.preventDefault();
});

document.querySelector("#picture-again").addEventListener("click", fetchPicture);
document.querySelector("#copy").addEventListener("click", async () => {
  const text = document.querySelector("#toml");
  text.select();
  await navigator.clipboard?.writeText(text.value);
});

save?.addEventListener("click", saveShapes);
addEventListener("beforeunload", (event) => {
  if (save && JSON.stringify(drawn()) !== kept) event.preventDefault(); // what was drawn and not saved would be lost
});
form.elements.kind.addEventListener("change", () => {
  form.elements.id.required = form.elements.kind.value !== "mask";
});

paint();
fetchPicture();
