/*
 * A screen's link: what follows its # is the key. It is posted once, for a cookie, and taken out of the address bar, so
 * that nobody who walks past the screen can read it there. No request's address carries it.
 */
import { csrfToken } from "./csrf.js";

const token = location.hash.slice(1);
const words = document.querySelector("[data-screen-words]");

async function enter() {
  const answer = await fetch(location.pathname, {
    method: "POST",
    headers: { "X-CSRFToken": csrfToken() },
    body: new URLSearchParams({ token }),
    redirect: "error",
  }).catch(() => null);
  if (answer?.ok) {
    location.reload();
    return;
  }
  const problem = await answer?.json().catch(() => null);
  if (words) words.textContent = problem?.detail ?? "This portal cannot be reached. Load the page again.";
}

if (token) {
  history.replaceState(null, "", location.pathname);
  if (words) words.textContent = "Opening…";
  enter();
}
