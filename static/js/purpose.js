/*
 * What somebody watches live for, where the page asks (templates/media/_purpose.html). Kept until the tab is closed, so
 * that nobody says the same again at every camera.
 */
const KEY = "live-purpose";
const select = document.querySelector("[data-live-purpose]");

if (select) {
  const kept = sessionStorage.getItem(KEY);
  if ([...select.options].some((option) => option.value === kept)) select.value = kept;
  select.addEventListener("change", () => sessionStorage.setItem(KEY, select.value));
}

/** The word for it, or "". */
export function purpose() {
  return select?.value ?? "";
}

/** True when one may begin. Else the browser shows what is to be chosen first, and `begin` is called when it is. */
export function isPurposeSaid(begin) {
  if (!select || select.reportValidity()) return true;
  select.addEventListener("change", begin, { once: true });
  return false;
}
