/*
 * Light, dark, or as the system says: applied before the first paint, so this is the one script that blocks.
 * The choice is kept in this browser; a browser that refuses storage simply follows its system.
 */
(() => {
  const root = document.documentElement;
  const key = "theme";
  root.dataset.js = "";

  function stored() {
    try {
      return localStorage.getItem(key) ?? "system";
    } catch {
      return "system";
    }
  }

  function apply(choice) {
    if (choice === "light" || choice === "dark") {
      root.dataset.theme = choice;
    } else {
      delete root.dataset.theme;
    }
    for (const button of document.querySelectorAll("[data-theme-set]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeSet === choice));
    }
  }

  apply(stored());
  document.addEventListener("DOMContentLoaded", () => apply(stored()));
  // Another tab changed it.
  addEventListener("storage", (event) => event.key === key && apply(stored()));
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-theme-set]");
    if (!button) return;
    const choice = button.dataset.themeSet;
    try {
      localStorage.setItem(key, choice);
    } catch {
      // The choice then holds for this page only.
    }
    apply(choice);
  });
})();
