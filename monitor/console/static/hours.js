// Situations by the hour of the reader's own day; without this the page counts in UTC.
const figure = document.querySelector("[data-begun]");
if (figure) {
  const counts = new Array(24).fill(0);
  for (const begun_s of JSON.parse(figure.dataset.begun)) counts[new Date(1000 * begun_s).getHours()] += 1;
  const most = Math.max(...counts);
  figure.querySelectorAll(".bar").forEach((bar, hour) => {
    const high = (90 * counts[hour]) / most;
    bar.setAttribute("y", 100 - high);
    bar.setAttribute("height", high);
    bar.querySelector("title").textContent = `${hour} h: ${counts[hour]}`;
  });
  figure.querySelector("svg").setAttribute("aria-label", `Situations by hour: ${counts.map((count, hour) => `${hour} h ${count}`).join(", ")}`);
  figure.querySelector("#zone").textContent = "your own time";
}
