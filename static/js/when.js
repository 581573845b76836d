/*
 * Says each <time data-when> in the viewer's own zone and habit: "4 min ago" under an hour, then clock time.
 * Without this script the server's words stand. Styles: "relative", "clock" (with seconds), "day",
 * "exact" (date, time and zone in full).
 */
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const time = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const timeWithSeconds = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", second: "2-digit" });
const dayAndMonth = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const inFull = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

function midnight(moment) {
  return new Date(moment.getFullYear(), moment.getMonth(), moment.getDate()).getTime();
}

function dayWords(moment, now) {
  // Rounded, because a day with a change of the clocks has 23 or 25 hours.
  const days = Math.round((midnight(now) - midnight(moment)) / DAY);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return moment.getFullYear() === now.getFullYear() ? dayAndMonth.format(moment) : date.format(moment);
}

/** The words for `moment` (a Date) as seen at `now` (a Date). */
export function sayWhen(moment, now, style = "relative") {
  if (style === "day") return dayWords(moment, now);
  if (style === "exact") return inFull.format(moment);
  const age = now - moment;
  if (style === "relative" && Math.abs(age) < HOUR) {
    const minutes = Math.floor(Math.abs(age) / MINUTE);
    if (minutes === 0) return age >= 0 ? "just now" : "in a moment";
    return age >= 0 ? `${minutes} min ago` : `in ${minutes} min`;
  }
  const clock = (style === "clock" ? timeWithSeconds : time).format(moment);
  const day = dayWords(moment, now);
  if (day === "Today") return clock;
  return day === "Yesterday" ? `${day} ${clock}` : `${day}, ${clock}`;
}

function refresh(root, now = new Date()) {
  for (const element of root.querySelectorAll("time[data-when]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const words = sayWhen(moment, now, element.dataset.when);
    if (element.textContent !== words) element.textContent = words;
    element.title = exact.format(moment);
  }
}

refresh(document);
new MutationObserver((changes) => {
  for (const { addedNodes } of changes) {
    for (const node of addedNodes) {
      if (node.nodeType === Node.ELEMENT_NODE) refresh(node.matches("time") ? node.parentElement ?? node : node);
    }
  }
}).observe(document.body, { childList: true, subtree: true });
setInterval(() => document.hidden || refresh(document), 15_000);
document.addEventListener("visibilitychange", () => document.hidden || refresh(document));
