/* The wall: starts the first few cameras one after the other, and stops them all. */
import { playerOf } from "./player.js";

const AT_ONCE = 4;
const APART_MS = 700;

for (const wall of document.querySelectorAll("[data-wall]")) {
  const button = document.querySelector("[data-wall-start]");
  const words = button?.querySelector("[data-wall-words]");
  const players = () => [...wall.querySelectorAll("[data-player]")].map(playerOf);
  const running = () => players().filter((player) => player.isOn);
  let starting = false;

  const show = () => {
    const isOn = starting || running().length > 0;
    button.setAttribute("aria-pressed", String(isOn));
    words.textContent = isOn ? "Stop all" : button.dataset.start;
    const use = button.querySelector("use");
    use?.setAttribute("href", use.getAttribute("href").replace(/#.*/, isOn ? "#pause" : "#play"));
  };
  wall.addEventListener("player:state", show);
  button?.addEventListener("click", async () => {
    if (starting || running().length) {
      starting = false;
      for (const player of running()) player.stop();
      show();
      return;
    }
    starting = true;
    show();
    // Staggered, so that a browser and a home's uplink do not open everything in the same moment.
    for (const player of players().slice(0, AT_ONCE)) {
      if (!starting) break;
      player.start();
      await new Promise((resolve) => setTimeout(resolve, APART_MS));
    }
    starting = false;
    show();
  });
  // The page draws it disabled: a press before this line would be lost.
  if (button) button.disabled = false;
}
