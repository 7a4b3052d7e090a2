// "why?" lays over a picture where the classifier looked; it is asked for then, since it costs a look.
for (const button of document.querySelectorAll("[data-heat]")) {
  button.addEventListener("click", () => {
    const laid = button.parentElement.querySelector(".heat");
    button.setAttribute("aria-pressed", String(!laid));
    if (laid) {
      laid.remove();
      return;
    }
    const heat = Object.assign(new Image(), { src: button.dataset.heat, className: "heat", alt: button.title });
    heat.addEventListener("error", () => heat.remove());
    button.before(heat);
  });
}
