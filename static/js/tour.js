/*
 * The short tour of the home page: one step at a time, beside what it speaks of, never in its way.
 * Started by `data-tour`; without this script the same steps stand on the page as a list.
 */
const tour = document.querySelector("[data-tour]");

if (tour) {
  const steps = [...tour.querySelectorAll("[data-tour-step]")];
  const count = tour.querySelector("[data-tour-count]");
  const back = tour.querySelector("[data-tour-back]");
  const next = tour.querySelector("[data-tour-next]");
  let at = 0;
  let marked = null;

  function mark(selector) {
    marked?.classList.remove("tour-target");
    // The first that is on the screen: the phone has a bar where the desktop has a rail.
    const found = [...document.querySelectorAll(selector)].find((one) => !tour.contains(one) && one.offsetParent) ?? null;
    // What lies in a closed menu is shown by the button that opens it.
    marked = found?.closest("details:not([open])")?.querySelector("summary") ?? found;
    marked?.classList.add("tour-target");
    marked?.scrollIntoView({ block: "nearest" });
  }

  function show(number, { focus = true } = {}) {
    at = number;
    steps.forEach((step, index) => {
      step.hidden = index !== at;
    });
    count.textContent = `${at + 1} of ${steps.length}`;
    back.disabled = at === 0;
    next.textContent = at === steps.length - 1 ? "Done" : "Next";
    mark(steps[at].dataset.tourStep);
    if (focus) steps[at].querySelector("h3").focus({ preventScroll: true });
  }

  function end() {
    marked?.classList.remove("tour-target");
    tour.remove();
    document.removeEventListener("keydown", onKey);
    const address = new URL(location.href);
    address.searchParams.delete("tour");
    history.replaceState(history.state, "", address);
    document.getElementById("main")?.focus({ preventScroll: true });
  }

  function onKey(event) {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    if (document.querySelector("dialog:modal, details[data-menu][open]")) return;
    end();
  }

  tour.querySelector("[data-tour-skip]").addEventListener("click", (event) => {
    event.preventDefault();
    end();
  });
  back.addEventListener("click", () => show(at - 1));
  next.addEventListener("click", () => (at === steps.length - 1 ? end() : show(at + 1)));
  document.addEventListener("keydown", onKey);
  tour.classList.add("tour-guided");
  show(0, { focus: false });
}
