/** The token Django wants back with every request that changes something, as header `X-CSRFToken`. */
export function csrfToken() {
  return document.querySelector('meta[name="csrf-token"]')?.content ?? "";
}
