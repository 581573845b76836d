/*
 * What every page has: menus, dialogs, copying, dismissing, toasts, keys, and the CSRF header on htmx's requests.
 * All of it is delegated from the document, so parts that htmx or a feed puts in later work too.
 */
import { csrfToken } from "./csrf.js";

// The address the page itself uses (its name carries a hash in production).
const icons =
  document.querySelector('use[href*="icons"]')?.getAttribute("href").split("#")[0] ??
  new URL("../icons.svg", import.meta.url).pathname;
const TOAST_MS = 6000;
// With something to do in it, for somebody who has to get there by keyboard.
const TOAST_WITH_ACTION_MS = 20_000;
const COPIED_MS = 2000;

function icon(name, small = false) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", small ? "icon icon-small" : "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${icons}#${name}`);
  svg.append(use);
  return svg;
}

const TOAST_ICONS = { success: "circle-check", warning: "triangle-alert", error: "circle-alert", info: "info" };

/**
 * Say something in the corner. It goes by itself, except an error, which waits to be read.
 * `action`, if given, is a button in it: `{ label, key, run }`; `key` is the letter that presses it.
 */
export function toast(text, kind = "info", action = null) {
  const box = document.createElement("div");
  box.className = `message message-${kind}`;
  const words = document.createElement("p");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "message-close";
  close.dataset.dismiss = "";
  close.setAttribute("aria-label", "Dismiss");
  close.append(icon("x", true));
  box.append(icon(TOAST_ICONS[kind] ?? "info"), words, close);
  if (action) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button button-small";
    button.dataset.pageKey = action.key;
    button.textContent = action.label;
    button.addEventListener("click", () => {
      box.remove();
      action.run();
    });
    words.after(button);
  }
  document.getElementById("toasts")?.append(box);
  if (kind !== "error") setTimeout(() => box.remove(), action ? TOAST_WITH_ACTION_MS : TOAST_MS);
  return box;
}

/** Open a <dialog>; a click beside it closes it. */
export function openDialog(dialog) {
  if (!dialog.open) dialog.showModal();
}

async function copy(button) {
  const source = button.dataset.copyFrom ? document.querySelector(button.dataset.copyFrom) : null;
  const text = source ? (source.value ?? source.textContent.trim()) : button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    toast("The browser did not allow copying. Select the text and copy it yourself.", "warning");
    return;
  }
  const use = button.querySelector("use");
  const before = use?.getAttribute("href");
  use?.setAttribute("href", `${icons}#check`);
  const label = button.getAttribute("aria-label");
  button.setAttribute("aria-label", "Copied");
  setTimeout(() => {
    if (before) use.setAttribute("href", before);
    if (label) button.setAttribute("aria-label", label);
    else button.removeAttribute("aria-label");
  }, COPIED_MS);
}

function closeMenus(except = null) {
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (menu !== except) menu.open = false;
  }
}

document.addEventListener("click", (event) => {
  const target = event.target;
  if (!(target instanceof Element)) return;
  const menu = target.closest("details[data-menu]");
  closeMenus(menu);
  if (menu && target.closest(".menu-list a, .menu-list button:not([data-theme-set])")) menu.open = false;

  const opener = target.closest("[data-dialog]");
  if (opener) {
    const dialog = document.getElementById(opener.dataset.dialog);
    if (dialog) {
      event.preventDefault();
      openDialog(dialog);
    }
  }
  const copier = target.closest("[data-copy], [data-copy-from]");
  if (copier) copy(copier);

  const dismisser = target.closest("[data-dismiss]");
  if (dismisser) {
    const box = dismisser.closest(".message");
    const list = box?.parentElement;
    box?.remove();
    if (list?.matches(".messages") && !list.children.length) list.remove();
  }
  // The dialog's own box is only hit where no child lies: on the backdrop.
  if (target instanceof HTMLDialogElement && target.open) {
    const box = target.getBoundingClientRect();
    const inside =
      event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) target.close();
  }
});

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRFToken"] = csrfToken();
});

/* Where places, tabs or chips are a strip to swipe, the current one is in sight. */
for (const here of document.querySelectorAll(":is(.places, .tabs, nav.filters) [aria-current]")) {
  const strip = here.closest(".places, .tabs, .filters");
  if (strip.scrollWidth > strip.clientWidth) {
    strip.scrollLeft += here.getBoundingClientRect().right - strip.getBoundingClientRect().right + strip.clientWidth / 4;
  }
}

/* Keys */
let chosen = null;

function items() {
  return [...document.querySelectorAll("[data-keys-list] [data-keys-item]")];
}

function choose(item) {
  chosen?.removeAttribute("aria-selected");
  chosen = item;
  chosen.setAttribute("aria-selected", "true");
  (chosen.querySelector("a[href], button") ?? chosen).focus({ preventScroll: true });
  chosen.scrollIntoView({ block: "nearest" });
}

function current() {
  const focused = document.activeElement?.closest("[data-keys-item]");
  return focused ?? (chosen?.isConnected ? chosen : null);
}

function step(by) {
  const list = items();
  if (!list.length) return;
  const at = list.indexOf(current());
  choose(list[at < 0 ? 0 : Math.min(Math.max(at + by, 0), list.length - 1)]);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    const open = document.querySelector("details[data-menu][open]");
    if (open) {
      closeMenus();
      open.querySelector("summary")?.focus();
    }
    return;
  }
  const typing = event.target instanceof Element && event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog:modal")) return;
  if (event.key === "j" || event.key === "k") {
    step(event.key === "j" ? 1 : -1);
  } else if (event.key === "/") {
    const field = document.querySelector("[data-keys-search]");
    if (!field) return;
    field.focus();
  } else if (event.key === "?") {
    const help = document.getElementById("keys");
    if (!help) return;
    openDialog(help);
  } else if (/^[a-z]$/.test(event.key)) {
    const button =
      current()?.querySelector(`[data-key="${event.key}"]`) ??
      [...document.querySelectorAll(`[data-page-key="${event.key}"]`)].at(-1);
    if (!button) return;
    button.click();
  } else {
    return;
  }
  event.preventDefault();
});
