/*
 * The live feed: shows each new event at its place in the list, the moment Ring tells us.
 *
 * Started by `data-feed` (templates/events/_feed.html). It remembers the position of the last event it has seen; when the
 * socket breaks it comes back with that position and the server sends what was missed. No row is put in while the
 * pointer is over the list, something in it has the focus, or the page is scrolled: a button says how many wait. A picture
 * that comes later changes no row's height: it waits for the pointer and the focus alone.
 *
 * Other modules listen on `document` for `portal:event` (detail: the event, as in docs/events.md), `portal:matched` (the
 * same, for those that the list's filters let through), `portal:picture` (detail: the frame), `portal:changed` and
 * `portal:open`.
 */
import { CLOSE_NOT_ALLOWED, CLOSE_PAUSED, openSource } from "./feed_source.js";
import { toast } from "./ui.js";

const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 30_000;
const PING_EVERY_MS = 20_000;
const SILENCE_MS = 10_000;
const STABLE_MS = 5_000;
// So often rows go in while many come.
const FLUSH_EVERY_MS = 250;
const LOOK_AGAIN_WITHIN_MS = 2_000;
const WORDS = { live: "Live", connecting: "Connecting…", reconnecting: "Reconnecting…", offline: "Offline" };

function sayState(state) {
  for (const element of document.querySelectorAll("[data-feed-state]")) {
    element.dataset.feedState = state;
    element.textContent = WORDS[state];
  }
}

/** One socket that stays open as long as the page is. Calls `onEvent` with each event, in order, once; `onOpen` each time. */
class Connection {
  constructor({ feedUrl, feedRows, feedAfter, feedRevision }, { onOpen, onEvent }) {
    this.address = feedUrl;
    this.rowsAddress = feedRows;
    this.position = Number(feedAfter);
    // The page's own stays: once something has changed since, every new socket says so.
    this.revision = feedRevision;
    this.onOpen = onOpen;
    this.onEvent = onEvent;
    this.failures = 0;
    this.socket = null;
    this.timers = [];
    addEventListener("online", () => this.hurry());
    // The browser knows of a network that is gone before any ping could tell.
    addEventListener("offline", () => this.drop());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
    // A page kept for the back button must not hold its socket, and needs a new one when it is shown again.
    addEventListener("pagehide", () => this.socket?.close());
    addEventListener("pageshow", (event) => event.persisted && this.hurry());
    this.open();
  }

  open() {
    sayState(this.failures ? "reconnecting" : "connecting");
    const socket = openSource(this.address, this.position, this.revision);
    this.socket = socket;
    socket.addEventListener("open", () => {
      sayState("live");
      this.onOpen();
      this.later(STABLE_MS, () => (this.failures = 0));
      this.watch();
    });
    socket.addEventListener("message", (message) => {
      this.heard = true;
      this.take(JSON.parse(message.data));
    });
    socket.addEventListener("close", (event) => socket === this.socket && this.lost(event.code));
  }

  take(frame) {
    if (frame.type === "event") {
      if (frame.position <= this.position) return;
      this.position = frame.position;
      this.onEvent(frame.event);
    } else if (frame.type === "picture") {
      document.dispatchEvent(new CustomEvent("portal:picture", { detail: frame }));
    } else if (frame.type === "changed") {
      document.dispatchEvent(new CustomEvent("portal:changed"));
    } else if (frame.type === "rights") {
      document.dispatchEvent(new CustomEvent("portal:rights"));
    }
  }

  /** A connection that died without a word is found by asking. */
  watch() {
    this.later(PING_EVERY_MS, () => {
      this.heard = false;
      this.socket.send('{"type":"ping"}');
      this.later(SILENCE_MS, () => {
        if (this.heard) this.watch();
        else this.drop();
      });
    });
  }

  drop() {
    const dead = this.socket;
    if (!dead) return;
    this.lost(1006);
    dead.close();
  }

  later(pause, work) {
    this.timers.push(setTimeout(work, pause));
  }

  lost(code) {
    this.socket = null;
    this.timers.forEach(clearTimeout);
    this.timers = [];
    if (code === CLOSE_PAUSED) return;
    this.failures += 1;
    sayState("reconnecting");
    if (code === CLOSE_NOT_ALLOWED) {
      this.comeBackIfAllowed();
      return;
    }
    if (this.failures === 3) this.askWhetherAllowed();
    const pause = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** (this.failures - 1));
    this.later(pause * (0.5 + Math.random()), () => this.open());
  }

  /** A refused handshake looks like a broken line; an ordinary request tells which it is. */
  async askWhetherAllowed() {
    try {
      const answer = await fetch(this.rowsAddress, { redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 404) this.end();
    } catch {
      // The line is down: trying goes on.
    }
  }

  /** Another role here, or another session of the same person: the page goes on with what is theirs now. */
  async comeBackIfAllowed() {
    await this.askWhetherAllowed();
    if (this.ended) return;
    document.dispatchEvent(new CustomEvent("portal:rights"));
    this.hurry();
  }

  hurry() {
    if (this.socket || this.ended) return;
    // Somebody looks, or the network is back: the pauses begin anew.
    this.failures = 0;
    this.timers.forEach(clearTimeout);
    this.timers = [];
    this.open();
  }

  end() {
    this.ended = true;
    this.timers.forEach(clearTimeout);
    this.socket?.close();
    sayState("offline");
    toast("You are signed out, or your part here has changed. Reload the page.", "warning");
  }
}

function localDay(moment) {
  return [moment.getFullYear(), moment.getMonth() + 1, moment.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
}

/** The list on the page: where a row belongs, and when it may go in. */
class List {
  constructor(root) {
    this.root = root;
    this.rows = root.querySelector("[data-feed-list]");
    this.template = root.querySelector("[data-feed-template]");
    this.button = root.querySelector("[data-feed-more]");
    this.announcer = root.querySelector("[data-feed-announce]");
    this.limit = Number(root.dataset.feedLimit) || 100;
    this.waiting = [];
    this.pictures = new Map();
    // Rows lie beyond the last one, on the next page.
    this.hasOlder = "feedHasOlder" in root.dataset;
    this.hasPointer = false;
    // The button lies in `root` too: who reaches for it has not gone away.
    this.root.addEventListener("pointerenter", (event) => (this.hasPointer = event.pointerType !== "touch"));
    this.root.addEventListener("pointerleave", () => {
      this.hasPointer = false;
      this.flush();
    });
    // What has the focus next is known a moment later.
    this.root.addEventListener("focusout", () => setTimeout(() => this.flush()));
    addEventListener("scroll", () => this.flush(), { passive: true });
    this.button.addEventListener("click", () => {
      this.show();
      if (this.rows.getBoundingClientRect().top < 0) this.root.scrollIntoView({ block: "start" });
      this.rows.querySelector("a")?.focus({ preventScroll: true });
    });
  }

  wants(event) {
    const { feedDevice, feedKind, feedSubtype, feedFrom, feedTo } = this.root.dataset;
    const occurred = new Date(event.occurred_at);
    return (
      (!feedDevice || feedDevice.split(" ").includes(event.device?.id)) &&
      (!feedKind || event.kind === feedKind) &&
      (!feedSubtype || feedSubtype.split(" ").includes(event.kind)) &&
      (!feedFrom || occurred >= new Date(feedFrom)) &&
      (!feedTo || occurred < new Date(feedTo))
    );
  }

  /** What happened before the last row belongs to the next page, where it is already. */
  isBeyond(event) {
    const last = [...this.rows.querySelectorAll("[data-event]")].at(-1);
    return this.hasOlder && last !== undefined && new Date(event.occurred_at) < new Date(last.dataset.occurred);
  }

  add(event) {
    if (this.isBeyond(event)) return;
    this.waiting.push(event);
    if (this.waiting.length > this.limit) this.waiting.shift();
    this.announce();
    this.flushSoon();
  }

  /** Now; but in a flood a few times a second, all that came at once: each time the page is laid out anew. */
  flushSoon() {
    if (this.flushing) return;
    const waitMs = (this.flushedAt ?? -FLUSH_EVERY_MS) + FLUSH_EVERY_MS - performance.now();
    this.flushing = setTimeout(() => {
      this.flushing = null;
      this.flushedAt = performance.now();
      this.flush();
    }, Math.max(0, waitMs));
  }

  /** Whether a new row could move what somebody points at, has the focus on, or reads. */
  isInUse() {
    if (!this.rows.children.length) return false;
    return this.isTouched() || scrollY > 0;
  }

  isTouched() {
    return this.hasPointer || this.root.contains(document.activeElement);
  }

  /** Put in what waits if nobody is in the way; else say that it waits. */
  flush() {
    if (!this.isTouched()) this.showPictures();
    if (this.isInUse()) {
      if (!this.waiting.length) return;
      this.button.firstElementChild.textContent = this.waitingWords();
      this.button.hidden = false;
      return;
    }
    if (this.waiting.length) this.show();
    if (this.lookLater) this.lookAgain().catch(() => {});
  }

  waitingWords() {
    return this.waiting.length === 1 ? "1 new event" : `${this.waiting.length} new events`;
  }

  show() {
    for (const event of this.waiting.splice(0)) this.place(this.draw(event));
    this.button.hidden = true;
    this.trim();
  }

  trim() {
    for (const row of [...this.rows.querySelectorAll("[data-event]")].slice(this.limit)) {
      row.remove();
      this.hasOlder = true;
    }
    for (const heading of this.rows.querySelectorAll(".events-day")) {
      if (!heading.nextElementSibling?.matches("[data-event]")) heading.remove();
    }
  }

  /** Put a row where it belongs by its time: late news goes below what happened after it. Of one moment the last to arrive is first. */
  place(row) {
    const { occurred, position } = row.dataset;
    const moment = new Date(occurred);
    const isAfter = (other) => new Date(other.occurred) - moment || Number(other.position) - Number(position);
    let before = this.headingOf(localDay(moment), occurred).nextElementSibling;
    while (before?.matches("[data-event]") && isAfter(before.dataset) > 0) before = before.nextElementSibling;
    this.rows.insertBefore(row, before);
    this.rows.hidden = false;
    for (const empty of document.querySelectorAll("[data-feed-empty]")) empty.remove();
  }

  /** The picture of an event has come. */
  takePicture(id, url) {
    const waiting = this.waiting.find((event) => event.id === id);
    if (waiting) waiting.picture = url;
    else if (this.rowOf(id)) {
      this.pictures.set(id, url);
      this.flushSoon();
    }
  }

  showPictures() {
    for (const [id, url] of this.pictures) {
      const row = this.rowOf(id);
      if (row && !row.querySelector(".picture-small")) row.append(this.drawPicture(url));
      row?.removeAttribute("data-awaits-picture");
    }
    this.pictures.clear();
  }

  drawPicture(url) {
    const picture = this.template.content.querySelector(".picture-small").cloneNode(true);
    picture.querySelector("img").src = url;
    return picture;
  }

  /** While the line was down, or before it was there, pictures may have come that nobody told of. */
  catchUp() {
    if (this.rows.querySelector("[data-awaits-picture]")) this.lookAgainSoon();
  }

  rowOf(id) {
    return this.rows.querySelector(`[data-event="${CSS.escape(id)}"]`);
  }

  headingOf(day, occurredAt) {
    const headings = [...this.rows.querySelectorAll("[data-day]")];
    const found = headings.find((heading) => heading.dataset.day === day);
    if (found) return found;
    const heading = document.createElement("h3");
    heading.className = "events-day";
    heading.dataset.day = day;
    const time = document.createElement("time");
    time.dateTime = occurredAt;
    time.dataset.when = "day";
    heading.append(time);
    this.rows.insertBefore(heading, headings.find((other) => other.dataset.day < day) ?? null);
    return heading;
  }

  draw(event) {
    const row = this.template.content.firstElementChild.cloneNode(true);
    row.dataset.event = event.id;
    row.dataset.occurred = event.occurred_at;
    row.dataset.position = event.position;
    const icon = row.querySelector(".event-icon");
    if (event.tone) icon.classList.add(`event-icon-${event.tone}`);
    const use = icon.querySelector("use");
    use.setAttribute("href", `${use.getAttribute("href").split("#")[0]}#${event.icon}`);
    const title = row.querySelector(".event-title");
    title.href = event.url;
    title.textContent = event.title;
    row.querySelector(".event-facts span").textContent = event.device?.name ?? "";
    row.querySelector("time").dateTime = event.occurred_at;
    for (const control of row.querySelectorAll("[data-feed-names]")) {
      control.value = event.id;
      control.setAttribute("aria-label", `${control.dataset.feedNames}: ${event.title}`);
    }
    const picture = row.querySelector(".picture-small");
    if (event.picture) picture.replaceWith(this.drawPicture(event.picture));
    else picture.remove();
    row.toggleAttribute("data-awaits-picture", !event.picture && Boolean(event.device));
    return row;
  }

  /** For those who listen rather than look; many at once are said as a number. */
  announce() {
    clearTimeout(this.announcing);
    this.unsaid = (this.unsaid ?? 0) + 1;
    const latest = this.waiting.at(-1);
    this.announcing = setTimeout(() => {
      const words = [latest.title, latest.device?.name].filter(Boolean).join(", ");
      if (this.waiting.length) this.announcer.textContent = `${this.waitingWords()}. Last: ${words}`;
      else this.announcer.textContent = this.unsaid > 1 ? `${this.unsaid} new events. Last: ${words}` : words;
      this.unsaid = 0;
    }, 300);
  }

  clear() {
    this.waiting = [];
    this.pictures.clear();
    this.button.hidden = true;
    this.rows.replaceChildren();
    this.hasOlder = true;
  }

  /** Everybody hears at once that there is something; not everybody asks at once. */
  lookAgainSoon() {
    this.looking ??= setTimeout(() => {
      this.looking = null;
      this.lookAgain().catch(() => {});
    }, Math.random() * LOOK_AGAIN_WITHIN_MS);
  }

  /** Older events became visible, or got their pictures: fetch the newest rows and put in those that are not here, when nobody is in the way. */
  async lookAgain() {
    this.lookLater = this.isInUse();
    if (this.lookLater) return;
    const answer = await fetch(this.root.dataset.feedRows, { redirect: "error" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // Somebody may have come to the list meanwhile.
    this.lookLater = this.isInUse();
    if (this.lookLater) return;
    for (const fresh of page.querySelectorAll("[data-event]")) {
      // It came by the socket meanwhile, and is about to be put in.
      if (this.waiting.some((event) => event.id === fresh.dataset.event)) continue;
      const row = document.adoptNode(fresh);
      const old = this.rowOf(row.dataset.event);
      if (!old) this.place(row);
      else {
        // What is selected stays selected.
        if (old.querySelector(".event-check")?.checked) row.querySelector(".event-check").checked = true;
        old.replaceWith(row);
      }
    }
    this.trim();
  }
}

const root = document.querySelector("[data-feed]");
if (root) {
  const list = new List(root);
  new Connection(root.dataset, {
    onOpen() {
      list.catchUp();
      document.dispatchEvent(new CustomEvent("portal:open"));
    },
    onEvent(event) {
      // One that came between the page's position and its rows is there already.
      const isNew = list.wants(event) && !list.rowOf(event.id);
      if (isNew) list.add(event);
      document.dispatchEvent(new CustomEvent("portal:event", { detail: event }));
      if (isNew) document.dispatchEvent(new CustomEvent("portal:matched", { detail: event }));
    },
  });
  document.addEventListener("portal:picture", ({ detail }) => list.takePicture(detail.event, detail.url));
  document.addEventListener("portal:rights", () => {
    // What was on the page may not be this person's to see any more; what is comes from the server.
    list.clear();
    document.dispatchEvent(new CustomEvent("portal:changed"));
    toast("What you may see here has changed. Reload the page to see all of it.");
  });
  document.addEventListener("portal:changed", () => list.lookAgainSoon());
}
