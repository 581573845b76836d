/*
 * Live pictures in a `[data-player]` (templates/media/_player.html): one WebRTC session at a time, by our WHEP endpoint.
 *
 * The picture comes direct from Ring or through the portal's relay; the server chooses, and says which (`Live-Path`). A
 * direct session is short (Ring ends it after 30 or 60 seconds). "Keep watching" opens the next one first, through the
 * relay, and swaps the <video> when its first frame is there, so the picture does not break. A relayed session goes on
 * over Ring's limits; there "Keep watching" only says that somebody is still there. States, in `data-state` and in words:
 * idle, connecting, waiting (for the first frame), live, stalled, ended, snapshots (no video gets through). Nothing is ever sent to the camera.
 */
import { Hold } from "./player_hold.js";
import { Reachability } from "./player_ice.js";
import { Servers } from "./player_servers.js";
import { Stats } from "./player_stats.js";
import { csrfToken } from "./csrf.js";
import { isPurposeSaid, purpose } from "./purpose.js";
import { toast } from "./ui.js";

const GATHERING_MS = 1000;
const FIRST_FRAME_MS = 12_000;
// The portal waits for Ring, and for a relay node, half a minute at most.
const ANSWER_MS = 40_000;
const ASK_MS = 5000;
const STALL_MS = 3000;
// At once only where the portal's relay fell silent: another one can go on.
const RETRY_S = [0, 2, 4, 8, 16, 30];
const CHECK_MS = 5000;
const HIDDEN_MS = 20_000;
const LAST_SECONDS = 15;
const SNAPSHOT_MS = 10_000;
// Trying again by itself would not change these.
export const FINAL = new Set(["offline", "forbidden", "removed", "link_again", "not_set_up", "no_video", "codec", "rejected", "budget", "csrf", "unauthorized", "unlinked", "privacy", "privacy_zones", "plan_ended", "access", "not_granted", "blocked", "purpose"]);
// What was seen before must not stay on the page either.
const GONE = new Set(["forbidden", "removed", "unauthorized", "unlinked", "privacy", "privacy_zones", "plan_ended", "access", "not_granted"]);
const ENDINGS = {
  closed: "Ended.",
  hidden: "Paused while this page was in the background.",
  cap: "That was all for now. Watch again if you are still there.",
  budget: "To spare the camera's battery, live view pauses for today.",
  access: "You may not watch this camera any more.",
  unlinked: "The Ring account was unlinked.",
  removed: "Ring does not share this camera any more.",
  offline: "The camera went offline.",
  privacy: "The camera has privacy zones now. We cannot mask them yet, so its video stays in the Ring app.",
  plan_ended: "The plan for this camera has ended; renew it in Ring My Apps.",
  lost: "The connection was lost.",
  silent: "The camera sends no picture any more.",
  relay: "The connection was ended here for a moment.",
  failed: "The picture never came.",
  network: "This portal cannot be reached. Check your connection.",
};
const PATHS = { direct: "Direct from Ring", relay: "Through the relay" };

/** Something ended a session or kept it from beginning; `reason` is the server's word or one of ours. */
class Ended extends Error {
  constructor(reason, words, retryAfterS = 0) {
    super(words);
    this.reason = reason;
    this.retryAfterS = retryAfterS;
  }
}

/** One session: a peer connection, its address at our server, and its <video>. */
class Session {
  constructor(endpoint, servers, capS, path = "") {
    this.endpoint = new URL(endpoint, location.href);
    if (path) this.endpoint.searchParams.set("path", path);
    if (purpose()) this.endpoint.searchParams.set("purpose", purpose());
    this.path = "direct";
    this.shouldMove = false;
    this.cannotMove = false; // this network does not reach the relay
    this.capS = capS;
    this.url = null;
    this.startedAt = 0;
    this.lastFrameAt = 0;
    this.gone = new AbortController();
    this.servers = servers;
    this.peer = new RTCPeerConnection({ iceServers: servers.known, bundlePolicy: "max-bundle" });
    this.video = document.createElement("video");
    this.video.muted = true;
    this.video.playsInline = true;
    this.video.autoplay = true;
    this.video.hidden = true;
    this.reach = new Reachability(this.peer, servers.known);
    this.failed = new Promise((_, reject) => {
      this.fail = reject;
    });
    this.failed.catch(() => {});
    this.firstFrame = new Promise((resolve) => {
      this.gotFrame = resolve;
    });
  }

  /** Open it; settles when the first frame is shown, rejects with Ended. The video must be in the page. */
  async open() {
    const began = performance.now();
    this.peer.ontrack = ({ track, streams }) => {
      this.video.srcObject = streams[0] ?? new MediaStream([track]);
      this.#watchFrames();
      this.video.play().catch(() => {});
    };
    this.peer.onconnectionstatechange = async () => {
      if (this.peer.connectionState !== "failed") return;
      this.fail(this.lastFrameAt ? new Ended("lost", ENDINGS.lost) : await this.#unreached());
    };
    if (this.servers.areOld) {
      await this.servers.renew();
      this.peer.setConfiguration({ ...this.peer.getConfiguration(), iceServers: this.servers.known });
    }
    const transceiver = this.peer.addTransceiver("video", { direction: "recvonly" });
    preferH264(transceiver);
    await this.peer.setLocalDescription(await this.peer.createOffer());
    await gathered(this.peer);
    // Stopped meanwhile: Ring need not hear of it.
    if (this.closed) throw new Ended("closed", ENDINGS.closed);
    const answer = await this.#post(this.peer.localDescription.sdp);
    // Closed while the answer was on its way: the server must hear of it now that the address is known.
    if (this.closed) {
      this.#delete();
      throw new Ended("closed", ENDINGS.closed);
    }
    this.startedAt = performance.now();
    await this.peer.setRemoteDescription({ type: "answer", sdp: answer });
    const tooLate = new Promise((_, reject) => {
      this.timer = setTimeout(async () => reject(await this.#unreached()), FIRST_FRAME_MS);
    });
    await Promise.race([this.firstFrame, this.failed, tooLate]).finally(() => clearTimeout(this.timer));
    this.firstFrameMs = performance.now() - began;
    if (!this.closed) this.hold = new Hold(this.peer);
  }

  /** Nothing arrived: the server may know why. Else what this network lets through says it, and what to do. */
  async #unreached() {
    const reason = await this.ending();
    if (reason) return new Ended(reason, ENDINGS[reason] ?? ENDINGS.lost);
    if (reason === undefined) return new Ended("network", ENDINGS.network);
    const { code, words, advice } = this.reach.diagnosis;
    // A camera that sends nothing may do so in a moment; a network that lets nothing through will not.
    return new Ended(code === "no_video" ? "failed" : "blocked", `${words} ${advice}`);
  }

  async #post(offer) {
    const headers = { "Content-Type": "application/sdp", Accept: "application/sdp", "X-CSRFToken": csrfToken() };
    // Who leaves before the answer is there ends it by this name. Browsers make none on pages that came without TLS.
    const name = crypto.randomUUID?.();
    if (name) {
      headers["Session-Name"] = name;
      this.url = new URL(`${this.endpoint.pathname}/${name}`, this.endpoint).href;
    }
    let response;
    try {
      response = await fetch(this.endpoint, {
        method: "POST",
        headers,
        body: offer,
        redirect: "error",
        signal: AbortSignal.timeout(ANSWER_MS),
      });
    } catch {
      throw new Ended("network", ENDINGS.network);
    }
    if (response.status !== 201) {
      this.url = null;
      const problem = await response.json().catch(() => ({}));
      throw new Ended(
        problem.reason ?? "unavailable",
        problem.detail ?? "The portal could not open the picture.",
        Number(response.headers.get("Retry-After")) || 0,
      );
    }
    this.url = new URL(response.headers.get("Location"), response.url).href;
    this.capS = Number(response.headers.get("Session-Cap")) || this.capS;
    this.path = response.headers.get("Live-Path") ?? this.path;
    return response.text();
  }

  /** Say that somebody is still there: a relayed session goes on. Throws Ended with the reason why it does not. */
  async prolong() {
    const response = await fetch(`${this.url}/more`, {
      method: "POST",
      headers: { "X-CSRFToken": csrfToken() },
      redirect: "error",
      signal: AbortSignal.timeout(ASK_MS),
    }).catch(() => {
      throw new Ended("network", ENDINGS.network);
    });
    if (!response.ok) {
      const problem = await response.json().catch(() => ({}));
      throw new Ended(problem.reason ?? "lost", problem.detail ?? ENDINGS.lost);
    }
    this.startedAt = performance.now();
    this.capS = Number(response.headers.get("Session-Cap")) || this.capS;
  }

  #watchFrames() {
    const seen = () => {
      this.lastFrameAt = performance.now();
      this.gotFrame();
    };
    if ("requestVideoFrameCallback" in this.video) {
      const next = () => {
        seen();
        if (!this.closed) this.video.requestVideoFrameCallback(next);
      };
      this.video.requestVideoFrameCallback(next);
    } else {
      this.video.addEventListener("timeupdate", seen);
    }
  }

  get closed() {
    return this.gone.signal.aborted;
  }

  get leftS() {
    return this.capS - (performance.now() - this.startedAt) / 1000;
  }

  /** Whether it stands still before somebody's eyes: browsers tell of no frame while the page is hidden. */
  get isStill() {
    return !document.hidden && performance.now() - this.lastFrameAt > STALL_MS;
  }

  /** The page is seen again; its next frame has yet to come. */
  seenAgain() {
    if (this.lastFrameAt) this.lastFrameAt = performance.now();
  }

  /** Why the server says it is over; null while it is open, undefined where the server cannot be asked. */
  async ending() {
    try {
      const signal = AbortSignal.any([this.gone.signal, AbortSignal.timeout(ASK_MS)]);
      const response = await fetch(this.url, { method: "HEAD", redirect: "error", signal });
      this.shouldMove = response.headers.get("Better-Path") === "relay";
      if (response.status === 404) return response.headers.get("Session-End") ?? "lost";
      return response.ok ? null : undefined;
    } catch {
      return undefined;
    }
  }

  close() {
    if (this.closed) return;
    // What is being asked about it is answered by this.
    this.gone.abort();
    this.hold?.stop();
    this.peer.close();
    this.video.srcObject = null;
    this.video.remove();
    this.fail(new Ended("closed", ENDINGS.closed));
    if (this.url) this.#delete();
  }

  /** Must get through although the page goes. */
  #delete() {
    if ("keepalive" in Request.prototype) {
      fetch(this.url, { method: "DELETE", keepalive: true, headers: { "X-CSRFToken": csrfToken() } }).catch(() => {});
    } else {
      const form = new FormData();
      form.set("csrfmiddlewaretoken", csrfToken());
      navigator.sendBeacon(this.url, form);
    }
  }
}

/** H.264 first: it is what cameras send, and hardware decodes it (contract 10.1). */
function preferH264(transceiver) {
  const codecs = RTCRtpReceiver.getCapabilities?.("video")?.codecs;
  if (!codecs || !transceiver.setCodecPreferences) return;
  const rank = (codec) => (codec.mimeType.toLowerCase() === "video/h264" ? 0 : 1);
  transceiver.setCodecPreferences([...codecs].sort((a, b) => rank(a) - rank(b)));
}

/** Ring takes no candidates after the offer, so all of them must be in it; but nobody waits for a silent STUN server. */
function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHERING_MS);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    });
  });
}

function pause(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Save a still. Its checksum is told, so that somebody can show later that the file is the one that was saved here. */
async function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  // Browsers have no checksums on pages that came without TLS.
  if (!crypto.subtle) return toast("Picture saved.", "success");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  const checksum = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return toast(`Picture saved. SHA-256 ${checksum}`, "success", {
    label: "Copy checksum",
    key: "c",
    run: () => navigator.clipboard?.writeText(`${checksum}  ${name}`),
  });
}

export class Player {
  constructor(root) {
    this.root = root;
    this.stage = root.querySelector("[data-player-stage]");
    this.poster = root.querySelector("[data-player-poster]");
    this.words = root.querySelector("[data-player-words]");
    this.left = root.querySelector("[data-player-left]");
    this.path = root.querySelector("[data-player-path]");
    this.badge = root.querySelector("[data-player-live]");
    this.guard = root.querySelector("[data-player-guard]");
    this.firstPoster = this.poster.src;
    this.buttons = Object.fromEntries(
      ["toggle", "extend", "grab", "pip", "full"].map((name) => [name, root.querySelector(`[data-player-${name}]`)]),
    );
    this.servers = new Servers(JSON.parse(root.dataset.iceServers || "[]"), root.dataset.whep);
    // A screen on a wall has nobody to press a key; a battery is not emptied for it.
    this.goesOn = root.dataset.goesOn !== undefined && root.dataset.battery === "no";
    this.isSmall = root.dataset.small !== undefined;
    this.extendWords = this.buttons.extend.textContent;
    this.session = null;
    this.next = null; // the session that is being opened to follow it
    this.run = null; // the AbortController of the present viewing
    this.state = "idle";
    const details = root.querySelector("[data-player-stats]");
    if (details) new Stats(details, () => this.session);
    this.#wire();
    if (root.dataset.autoplay !== undefined) this.start();
  }

  get isOn() {
    return this.run !== null;
  }

  /** Watch. Comes back by itself from a lost picture, a few times; ends with the reason in words. */
  async start() {
    if (this.isOn) return;
    if (!isPurposeSaid(() => this.start())) {
      this.#announce("Choose first what you watch for.");
      return;
    }
    const run = new AbortController();
    this.run = run;
    clearInterval(this.snapshots);
    this.#showToggle("Stop", "pause");
    this.#endWhenUnseen();
    for (let tries = 0; ; ) {
      this.#say(tries ? "stalled" : "connecting", tries ? "Connecting again…" : "Connecting to the camera…");
      const began = performance.now();
      try {
        await this.#openFirst(run);
        await this.#stayLive(run);
        return; // stopped
      } catch (error) {
        if (run.signal.aborted) return;
        const ended = error instanceof Ended ? error : new Ended("lost", "This browser could not show the picture.");
        const wasSeen = (this.session?.lastFrameAt ?? 0) > 0;
        const wasRelayed = wasSeen && this.session.path === "relay";
        this.#drop(ended.reason);
        if (wasSeen && performance.now() - began > 30_000) tries = 0;
        if (tries === 0 && !wasRelayed) tries = 1;
        const again = ended.reason !== "cap" && ended.reason !== "closed" && !FINAL.has(ended.reason) && tries < RETRY_S.length;
        if (!again) {
          this.#finish(run, ended.message, ended.reason);
          return;
        }
        // Hundreds may have watched by it: they do not all come back in one moment.
        const waitS = Math.max(RETRY_S[tries] || Math.random(), ended.retryAfterS);
        tries += 1;
        this.#say("stalled", `${ended.message} ${waitS < 1 ? "Trying again…" : `Trying again in ${waitS} s.`}`);
        await pause(waitS, run.signal);
        if (run.signal.aborted) return;
      }
    }
  }

  /** Stop, and tell Ring. */
  stop(words = ENDINGS.closed, reason = "closed") {
    const run = this.run;
    if (!run) return;
    run.abort();
    this.#drop(reason);
    this.#finish(run, words, reason);
  }

  /** Keep watching: tell the relay, or open the next session, by the relay, before this direct one ends. */
  async extend() {
    if (this.state !== "live" || this.next) return;
    if (this.session.path !== "relay") {
      await this.#moveToRelay("Live, for another while.");
      return;
    }
    try {
      await this.session.prolong();
      this.#announce("Live, for another while.");
    } catch (error) {
      this.#announce(`It could not be extended: ${error.message}`);
    }
  }

  /** Open a session by the relay, and change over at its first frame. `words` are for whoever asked for it; else "". */
  async #moveToRelay(words) {
    const before = this.session;
    const next = this.#newSession("relay");
    this.#prepare(next);
    try {
      await next.open();
    } catch (error) {
      next.close();
      before.cannotMove = true;
      // Else the viewing ended meanwhile, and this session with it.
      if (this.next === next) {
        this.#prepare(null);
        if (words) this.#announce(`It could not be extended: ${error.message}`);
      }
      return;
    }
    if (this.next !== next) return;
    this.#prepare(null);
    this.session = next;
    next.video.hidden = false;
    await this.#movePictureInPicture(before, next);
    before.close();
    this.#showPath();
    if (words) this.#announce(words);
  }

  /** What will follow the present session, null when nothing is being opened. */
  #prepare(next) {
    this.next = next;
    this.buttons.extend.disabled = next !== null;
    this.buttons.extend.textContent = next ? "Opening…" : this.extendWords;
  }

  /** Save what is shown now, whole and at full size, with Ring's watermark. */
  grab() {
    const video = this.session?.video;
    if (!video?.videoWidth) return;
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const moment = new Date().toISOString().replaceAll(":", ".").slice(0, 19);
    const source = this.root.getAttribute("aria-label");
    canvas.toBlob((blob) => save(blob, `${source} ${moment}.png`), "image/png");
  }

  async pictureInPicture() {
    try {
      if (document.pictureInPictureElement) await document.exitPictureInPicture();
      else await this.session?.video.requestPictureInPicture();
    } catch {
      toast("This browser does not allow picture in picture here.", "warning");
    }
  }

  async fullScreen() {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await this.root.requestFullscreen?.().catch(() => toast("This browser does not allow full screen here.", "warning"));
  }

  #newSession(path = "") {
    const session = new Session(this.root.dataset.whep, this.servers, Number(this.root.dataset.capS) || 30, path);
    this.stage.append(session.video);
    return session;
  }

  async #openFirst(run) {
    const session = this.#newSession();
    this.session = session;
    const opening = session.open();
    session.peer.addEventListener("connectionstatechange", () => {
      if (session.peer.connectionState === "connected" && this.state === "connecting") this.#say("waiting", "Waiting for the first picture…");
    });
    await opening;
    if (run.signal.aborted) throw new Ended("closed", ENDINGS.closed);
    session.video.hidden = false;
    this.#say("live", "");
  }

  /** Look at the picture until it ends; throws Ended with the reason. */
  async #stayLive(run) {
    let checkedAt = performance.now();
    while (!run.signal.aborted) {
      await pause(0.25, run.signal);
      if (run.signal.aborted) return;
      const session = this.session;
      const leftS = session.leftS;
      this.#tick(leftS);
      if (leftS <= 0 && !this.next) throw this.#overtime(session);
      if (session.isStill) {
        // Near its end, or when the server knows better, it did not stall: it ended.
        const reason = leftS < STALL_MS / 1000 ? "cap" : ((await session.ending()) ?? "stalled");
        if (reason === "cap") throw this.#overtime(session);
        // Pictures may have come while the server was asked.
        const goesOn = reason === "stalled" && !session.isStill;
        if (session === this.session && !goesOn) throw new Ended(reason, ENDINGS[reason] ?? "The picture stands still.");
      }
      if (performance.now() - checkedAt > CHECK_MS) {
        checkedAt = performance.now();
        const reason = await session.ending();
        if (reason && session === this.session && !run.signal.aborted) throw new Ended(reason, ENDINGS[reason] ?? ENDINGS.lost);
        // Others watch this camera by the relay: one session at the camera is enough.
        if (session.shouldMove && !session.cannotMove && session === this.session && !this.next) this.#moveToRelay("");
      }
    }
  }

  #overtime(session) {
    return new Ended("cap", session.path === "relay" ? ENDINGS.cap : `Ring ends a live view after ${session.capS} seconds.`);
  }

  #showPath() {
    if (this.path) this.path.textContent = this.state === "live" ? (PATHS[this.session?.path] ?? "") : "";
  }

  #tick(leftS) {
    const whole = Math.max(0, Math.ceil(leftS));
    const clock = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
    this.left.textContent = this.isSmall ? clock : `${clock} left`;
    const isNear = whole <= LAST_SECONDS;
    if (isNear !== this.isNear) {
      this.isNear = isNear;
      this.buttons.extend.classList.toggle("button-primary", isNear);
      if (isNear && this.goesOn) this.extend();
      else if (isNear) this.#announce(`${whole} seconds left. Press e to keep watching.`);
      else if (this.state === "live") this.#announce("");
    }
  }

  #announce(words) {
    this.words.textContent = words;
  }

  #say(state, words, reason = "") {
    this.state = state;
    this.root.dataset.state = state;
    this.root.setAttribute("aria-busy", String(state === "connecting" || state === "waiting"));
    const isLive = state === "live";
    this.badge.hidden = !isLive;
    this.#showPath();
    if (this.guard) this.guard.hidden = !this.isOn;
    for (const name of ["extend", "grab", "pip"]) if (this.buttons[name]) this.buttons[name].hidden = !isLive;
    if (this.buttons.pip && !document.pictureInPictureEnabled) this.buttons.pip.hidden = true;
    this.buttons.toggle.classList.toggle("button-primary", !this.isOn);
    if (!isLive) {
      this.left.textContent = "";
      this.isNear = false;
    }
    this.#announce(words);
    this.root.dispatchEvent(new CustomEvent("player:state", { bubbles: true, detail: { state, reason } }));
  }

  #drop(reason) {
    if (GONE.has(reason)) this.poster.src = this.firstPoster;
    else this.#keepLastFrame();
    this.session?.close();
    this.session = null;
    this.next?.close();
    this.#prepare(null);
  }

  /** What was last seen is newer than the picture the page came with. It stays in this page only. */
  #keepLastFrame() {
    const video = this.session?.video;
    if (!video?.videoWidth) return;
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const clock = new Date().toLocaleTimeString();
    canvas.toBlob((blob) => blob && this.showPicture(URL.createObjectURL(blob), `as it was at ${clock}`), "image/jpeg", 0.85);
  }

  /** Put another still in place of the present one. */
  showPicture(address, words) {
    if (this.poster.src.startsWith("blob:")) URL.revokeObjectURL(this.poster.src);
    this.poster.src = address;
    this.poster.alt = `${this.root.getAttribute("aria-label").replace(/, live$/, "")}, ${words}`;
  }

  #finish(run, words, reason) {
    if (this.run !== run) return;
    this.run = null;
    this.#showToggle("Watch again", "play");
    this.#say("ended", words, reason);
    // A screen has no pictures but its own.
    if (reason === "blocked" && !this.root.closest("[data-wall-screen]")) this.#stepDown(words);
  }

  /** No video gets through here: the newest pictures instead, and labelled so, until somebody tries again. */
  #stepDown(words) {
    this.root.dataset.state = "snapshots";
    this.#announce(`${words} Until then: pictures of events instead of video, looked for every ten seconds.`);
    this.snapshots = setInterval(() => document.hidden || this.newestPicture(), SNAPSHOT_MS);
    this.newestPicture();
  }

  /** Show the newest picture there is of this camera. */
  newestPicture() {
    const address = new URL(this.firstPoster, location.href);
    address.searchParams.set("v", Date.now());
    this.showPicture(address.href, "a picture, not live");
  }

  #showToggle(words, icon) {
    this.buttons.toggle.querySelector("[data-player-toggle-words]").textContent = words;
    const use = this.buttons.toggle.querySelector("use");
    use?.setAttribute("href", use.getAttribute("href").replace(/#.*/, `#${icon}`));
  }

  async #movePictureInPicture(before, next) {
    if (document.pictureInPictureElement !== before.video) return;
    await next.video.requestPictureInPicture().catch(() => {});
  }

  #wire() {
    this.buttons.toggle.addEventListener("click", () => (this.isOn ? this.stop() : this.start()));
    // The page draws it disabled: a press before this line would be lost.
    this.buttons.toggle.disabled = false;
    this.buttons.extend.addEventListener("click", () => this.extend());
    this.buttons.grab?.addEventListener("click", () => this.grab());
    this.buttons.pip?.addEventListener("click", () => this.pictureInPicture());
    this.buttons.full.addEventListener("click", () => this.fullScreen());
    addEventListener("pagehide", () => this.stop());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.session?.seenAgain();
      this.#endWhenUnseen();
    });
    // The picture's own window is closed, and the tab is still in the background.
    this.stage.addEventListener("leavepictureinpicture", () => this.#endWhenUnseen(), { capture: true });
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Nobody sees the page: while it goes on, Ring may keep a doorbell's ring to itself, and a battery drains. */
  #endWhenUnseen() {
    clearTimeout(this.hiddenTimer);
    // A picture in its own window is being watched although the tab is not.
    if (!document.hidden || !this.isOn || document.pictureInPictureElement !== null) return;
    this.hiddenTimer = setTimeout(() => this.stop(ENDINGS.hidden, "hidden"), HIDDEN_MS);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog:modal")) return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (target.closest("input, textarea, select, [contenteditable]")) return;
    const isOurs = this.root.contains(target) || document.querySelectorAll("[data-player]").length === 1;
    // The space bar belongs to the button or link that has the focus.
    if (!isOurs || (event.key === " " && target.closest("button, a, summary"))) return;
    const action = {
      f: () => this.fullScreen(),
      p: () => this.pictureInPicture(),
      s: () => this.grab(),
      e: () => this.extend(),
      " ": () => (this.isOn ? this.stop() : this.start()),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

const players = new WeakMap();

/** The player of a `[data-player]` element. */
export function playerOf(root) {
  if (!players.has(root)) players.set(root, new Player(root));
  return players.get(root);
}

for (const root of document.querySelectorAll("[data-player]")) playerOf(root);
