/*
 * The wall: live pictures for as many cameras as the company allows at once (`data-wall-most`), stills for the others.
 *
 * Started, it opens them one after the other. Whoever ends makes room for the camera that was live longest ago, so that
 * all have their turn; a battery camera has one only, and by its events. What a person started stays until they stop it.
 * With "Follow events", a camera where something happens comes to the front and, while the wall runs, goes live in place
 * of the one that has been live longest.
 */
import { FINAL, playerOf } from "./player.js";
import { isPurposeSaid } from "./purpose.js";

const APART_MS = 700;
const TURN_MS = 2000;
// Nobody watches a wall of stills for hours: a started wall that nobody touches ends by itself. A screen does not.
const RUN_MS = 30 * 60_000;
const MARK_MS = 30_000;
// An event's picture takes a moment to come from Ring.
const PICTURE_AFTER_MS = [4000, 12_000];
// Nobody stands before a screen to start a camera again: it looks by itself, less often where only people can change it.
const OUT_MS = 10 * 60_000;
const PASSING = new Set(["offline", "blocked"]);
const OUT_PASSING_MS = 60_000;
const FOLLOW_KEY = "wall-follow";

/** Named slots that all walls of this browser share, where it has locks (pages with TLS); else this wall's own. */
class Slots {
  constructor(most) {
    this.names = Array.from({ length: most }, (_, number) => `wall-slot-${number}`);
    this.taken = new Map();
  }

  /** Take one: a function that gives it back, or null when all are taken. */
  async take() {
    for (const name of this.names) {
      if (this.taken.has(name)) continue;
      this.taken.set(name, true);
      const release = await this.#lock(name);
      if (release) {
        return () => {
          this.taken.delete(name);
          release();
        };
      }
      this.taken.delete(name);
    }
    return null;
  }

  #lock(name) {
    if (!navigator.locks) return Promise.resolve(() => {});
    return new Promise((resolve) => {
      navigator.locks.request(name, { ifAvailable: true }, (lock) => {
        if (!lock) return resolve(null);
        return new Promise((release) => resolve(release));
      });
    });
  }
}

class Wall {
  constructor(root) {
    this.root = root;
    this.isScreen = root.dataset.wallScreen !== undefined;
    this.button = document.querySelector("[data-wall-start]");
    this.words = this.button?.querySelector("[data-wall-words]");
    this.status = document.querySelector("[data-wall-status]");
    this.slots = new Slots(Number(root.dataset.wallMost) || 4);
    this.tiles = [...root.querySelectorAll("[data-player]")].map((element) => new Tile(element, this.isScreen));
    this.isRunning = false;
    this.turn = Promise.resolve();
    root.addEventListener("player:state", (event) => this.heard(event));
    this.button?.addEventListener("click", () => (this.isOn ? this.stop("") : this.start()));
    for (const name of ["pointerdown", "keydown"]) addEventListener(name, () => (this.touchedAt = performance.now()));
    // The page draws it disabled: a press before this line would be lost.
    if (this.button) this.button.disabled = false;
    this.#follow();
    this.show();
    // The pictures end with the page; the browser may show this very page again.
    addEventListener("pagehide", () => this.stop(""));
    if (!this.isScreen) return;
    document.addEventListener("visibilitychange", () => this.comeBack());
    addEventListener("pageshow", () => this.comeBack());
    this.start();
  }

  get live() {
    return this.tiles.filter((tile) => tile.player.isOn);
  }

  get isOn() {
    return this.isRunning || this.live.length > 0;
  }

  start() {
    if (!isPurposeSaid(() => this.start())) {
      this.status.textContent = "Choose first what you watch for.";
      return;
    }
    this.isRunning = true;
    this.touchedAt = performance.now();
    for (const tile of this.tiles) tile.rest();
    this.timer = setInterval(() => this.fill(), TURN_MS);
    this.fill();
    this.show();
  }

  /** A screen that slept is on again, and has nobody to press Start. */
  comeBack() {
    if (!document.hidden && !this.isRunning) this.start();
  }

  stop(words) {
    this.isRunning = false;
    clearInterval(this.timer);
    for (const tile of this.live) tile.player.stop();
    this.show();
    if (words) this.status.textContent = words;
  }

  /** Give every free slot to whoever has waited longest; one after the other, not all in the same moment. */
  fill() {
    this.turn = this.turn.then(async () => {
      if (!this.isRunning || document.hidden) return;
      if (!this.isScreen && performance.now() - this.touchedAt > RUN_MS) {
        this.stop("The wall stopped because nobody touched it for half an hour. Start it again when you are back.");
        return;
      }
      for (const tile of this.waiting()) {
        if (!this.isRunning || !(await this.open(tile))) return;
        await new Promise((resolve) => setTimeout(resolve, APART_MS));
      }
    });
  }

  waiting() {
    return this.tiles.filter((tile) => tile.isWaiting).sort((one, other) => one.liveAt - other.liveAt);
  }

  /** Make one live if there is a slot; false when there is none. */
  async open(tile) {
    if (tile.player.isOn) return true;
    const release = await this.slots.take();
    if (!release) return false;
    tile.begin(release);
    return true;
  }

  heard({ target, detail }) {
    const tile = this.tiles.find((one) => one.player.root === target);
    if (!tile) return;
    if (detail.state === "ended") {
      tile.end(detail.reason);
      if (detail.reason === "hidden") this.stop("");
      // The screen's link has ended: the page says so, and shows nothing more.
      if (this.isScreen && detail.reason === "access") location.reload();
    }
    this.show();
  }

  show() {
    const live = this.live.length;
    if (this.button) {
      this.button.setAttribute("aria-pressed", String(this.isOn));
      this.words.textContent = this.isOn ? "Stop all" : "Start";
      const use = this.button.querySelector("use");
      use?.setAttribute("href", use.getAttribute("href").replace(/#.*/, this.isOn ? "#pause" : "#play"));
    }
    if (!this.status || this.isScreen) return;
    const waits = this.isRunning && live < this.tiles.length;
    const words = waits ? `${live} of ${this.tiles.length} live. The others show their last picture until it is their turn.` : "";
    if (this.status.textContent !== words) this.status.textContent = words;
  }

  // --- focus follows events ---

  #follow() {
    this.box = document.querySelector("[data-wall-follow]");
    if (!this.box) return;
    const kept = localStorage.getItem(FOLLOW_KEY);
    // Who wants little to move is not surprised by tiles that do, unless they ask for it.
    this.box.checked = kept === null ? !matchMedia("(prefers-reduced-motion: reduce)").matches : kept === "on";
    this.box.addEventListener("change", () => localStorage.setItem(FOLLOW_KEY, this.box.checked ? "on" : "off"));
    document.addEventListener("portal:event", ({ detail }) => this.happened(detail));
  }

  happened(event) {
    // News of the device itself (online, battery) is nothing to look at.
    if (event.kind === "device") return;
    const tiles = this.tiles.filter((tile) => tile.device === event.device?.id);
    for (const tile of tiles) tile.mark(event.title);
    const [first] = tiles;
    if (!first || !this.box.checked) return;
    this.bringToFront(first);
    if (this.isRunning) this.turn = this.turn.then(() => this.makeRoom(first));
  }

  /** Not while somebody points at the wall or works in it: nothing moves under their hand. */
  bringToFront(tile) {
    const item = tile.item;
    if (this.root.matches(":hover, :focus-within") || this.root.firstElementChild === item) return;
    if ("moveBefore" in this.root) this.root.moveBefore(item, this.root.firstElementChild);
    else {
      this.root.insertBefore(item, this.root.firstElementChild);
      // Where a browser cannot move without a break, a video that was moved stands still.
      item.querySelector("video")?.play().catch(() => {});
    }
  }

  async makeRoom(tile) {
    if (!this.isRunning || document.hidden || tile.isOut || (await this.open(tile))) return;
    const [oldest] = this.live.filter((other) => other.release).sort((one, other) => one.liveAt - other.liveAt);
    if (!oldest) return;
    // The slot goes from hand to hand: given back, somebody else might take it.
    const { release } = oldest;
    oldest.release = null;
    oldest.player.stop("Another camera has something to show.", "turn");
    tile.begin(release);
  }
}

/** One camera on the wall. */
class Tile {
  constructor(element, isOnScreen) {
    this.player = playerOf(element);
    this.isOnScreen = isOnScreen;
    this.item = element.closest("[data-wall-tile]");
    this.device = element.dataset.device;
    this.isOnLine = element.dataset.battery === "no";
    this.note = this.item.querySelector("[data-wall-note]");
    this.liveAt = 0;
    this.rest();
  }

  /** A new run of the wall: everybody has a turn again. */
  rest() {
    this.hadTurn = false;
    this.outUntil = 0;
  }

  /** Not worth another turn yet. */
  get isOut() {
    return performance.now() < this.outUntil;
  }

  get isWaiting() {
    return !this.player.isOn && !this.isOut && (this.isOnLine || !this.hadTurn);
  }

  begin(release) {
    this.release = release;
    this.liveAt = performance.now();
    this.hadTurn = true;
    this.player.start();
  }

  end(reason) {
    this.release?.();
    this.release = null;
    this.liveAt = performance.now();
    // Who stops one picture wants it stopped.
    if (reason === "closed") this.outUntil = Infinity;
    const pauseMs = PASSING.has(reason) ? OUT_PASSING_MS : OUT_MS;
    if (FINAL.has(reason)) this.outUntil = this.isOnScreen ? performance.now() + pauseMs : Infinity;
  }

  /** Something happened here: say it, and fetch the picture of it when it has come. */
  mark(title) {
    this.item.dataset.happened = "";
    this.note.textContent = title;
    clearTimeout(this.unmark);
    this.unmark = setTimeout(() => {
      delete this.item.dataset.happened;
      this.note.textContent = "";
    }, MARK_MS);
    for (const after_ms of PICTURE_AFTER_MS) setTimeout(() => this.#newPicture(), after_ms);
  }

  #newPicture() {
    if (!this.player.isOn) this.player.newestPicture();
  }
}

for (const root of document.querySelectorAll("[data-wall]")) new Wall(root);
