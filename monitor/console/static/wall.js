// The wall: every camera's newest picture with what is seen in it, asked for a few times a second.
const PERIOD_MS = 250;
const STATES = { ok: "sees", degraded: "degraded", blind: "blind" };

const cameras = [...document.querySelectorAll(".camera")];
const trouble = document.querySelector("#trouble");
const shown = new Map();

function draw(canvas, image, { size, boxes }) {
  const [width, height] = size;
  canvas.width = image.width;
  canvas.height = image.height;
  const pen = canvas.getContext("2d");
  const scale = image.width / width;
  pen.drawImage(image, 0, 0);
  pen.lineWidth = 2;
  pen.font = "600 14px system-ui, sans-serif";
  for (const { box: [x1, y1, x2, y2], called, probability, p_animal } of boxes) {
    if (p_animal < 0.5) continue;
    const text = `${called} ${Math.round(100 * probability)} %`;
    const left = x1 * scale, top = y1 * scale;
    pen.strokeStyle = "#f5b301";
    pen.strokeRect(left, top, (x2 - x1) * scale, (y2 - y1) * scale);
    pen.fillStyle = "#f5b301";
    const above = top > 22 ? top - 20 : top;
    pen.fillRect(left, above, pen.measureText(text).width + 10, 20);
    pen.fillStyle = "#17202a";
    pen.fillText(text, left + 5, above + 15);
  }
  return height;
}

function tell(element, { state, reason, boxes }) {
  const badge = element.querySelector(".state");
  badge.className = `state ${state}`;
  badge.textContent = reason ? `${STATES[state]}: ${reason}` : STATES[state];
  const animals = boxes.filter(({ p_animal }) => p_animal >= 0.5).map(({ called }) => called);
  const nothing = state === "blind" ? "what happens there is unknown" : "no animal in view";
  element.querySelector(".seen").textContent = animals.length ? animals.join(", ") : nothing;
  element.classList.toggle("old", state === "blind");
}

async function show(element, facts) {
  tell(element, facts);
  const name = element.dataset.camera;
  if (facts.number === null || shown.get(name) === facts.number) return;
  const answer = await fetch(`/api/live/${encodeURIComponent(name)}`);
  if (!answer.ok) return;
  const image = await createImageBitmap(await answer.blob());
  draw(element.querySelector("canvas"), image, facts);
  shown.set(name, facts.number);
}

async function round() {
  try {
    const answer = await fetch("/api/site");
    if (answer.status === 401) {
      location.assign("/login");
      return;
    }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const { cameras: facts } = await answer.json();
    await Promise.all(cameras.filter((one) => facts[one.dataset.camera]).map((one) => show(one, facts[one.dataset.camera])));
    trouble.hidden = true;
  } catch {
    trouble.hidden = false;
  }
  setTimeout(round, document.hidden ? 10 * PERIOD_MS : PERIOD_MS);
}

round();
