/*
 * Reviewing in the list of events: `data-review` is the form that every row's controls belong to. One event, or the
 * selected ones, are marked without leaving the page, and rows stay where they are; a toast undoes it. All that match is
 * a page of its own answer. Without this script every button is a page.
 */
import { toast } from "./ui.js";

const form = document.querySelector("[data-review]");
let said = null;

function rowOf(id) {
  return document.querySelector(`[data-event="${CSS.escape(id)}"]`);
}

function show(id, isReviewed) {
  const row = rowOf(id);
  if (!row) return;
  row.classList.toggle("event-new", !isReviewed);
  const button = row.querySelector(".event-review");
  button.name = isReviewed ? "put_back" : "mark";
  button.setAttribute("aria-pressed", String(isReviewed));
}

/** The number by the tab and in the title: words such as "7" or "99+". */
function sayWaiting(words) {
  const count = document.querySelector("[data-review-count]");
  count.textContent = words;
  count.hidden = words === "0";
  const title = document.title.replace(/^\([^)]*\) /, "");
  document.title = words === "0" ? title : `(${words}) ${title}`;
}

async function send(address, data) {
  let answer;
  try {
    answer = await fetch(address, { method: "POST", body: data, headers: { Accept: "application/json" }, redirect: "error" });
  } catch {
    answer = null;
  }
  if (!answer?.ok) {
    toast("That did not work. Nothing has changed; reload the page and try again.", "error");
    return;
  }
  const { words, batch, reviewed, put_back: putBack, waiting } = await answer.json();
  for (const id of reviewed) show(id, true);
  for (const id of putBack) show(id, false);
  sayWaiting(waiting);
  const undo = batch && { label: "Undo", key: "u", run: () => send(form.dataset.reviewUndo, undoing(batch)) };
  // The last action only: who reviews one after the other is not to be buried in what they did.
  said?.remove();
  said = toast(words, "success", undo || null);
}

function undoing(batch) {
  const data = new FormData();
  data.set("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
  data.set("query", form.elements.query.value);
  data.set("batch", batch);
  return data;
}

form?.addEventListener("submit", (event) => {
  if (event.submitter?.value === "all") return;
  event.preventDefault();
  const data = new FormData(form, event.submitter);
  const row = event.submitter?.closest("[data-event]");
  if (event.submitter?.name === "mark" && row?.querySelector(".event-check").checked) {
    // One of the selected stands for all of them.
    data.delete("mark");
    data.set("do", "selected");
  }
  for (const box of document.querySelectorAll(".event-check:checked")) {
    if (data.has("do")) box.checked = false;
  }
  send(form.action, data);
});

// What has just come nobody has reviewed; what the filters leave out, or is too old for the queue, is not counted.
document.addEventListener("portal:matched", ({ detail }) => {
  if (new Date(detail.occurred_at) < new Date(form?.dataset.reviewSince)) return;
  const count = document.querySelector("[data-review-count]");
  const known = Number(count?.textContent || 0);
  if (count && Number.isInteger(known)) sayWaiting(known < 99 ? String(known + 1) : "99+");
});
