/*
 * Where the feed gets its frames from: the websocket, and where a proxy lets none through, the event stream.
 *
 * A stream is asked for after two websockets in a row that never opened, and the websocket again after that stream has
 * ended. Both give the same frames, and are used alike: `open`, `message` and `close` events, `send` and `close()`.
 */
const TRY_SOCKET_TIMES = 2;
const SILENCE_MS = 40_000;
const CLOSE_BROKEN = 1006;

export const CLOSE_NOT_ALLOWED = 4403;
/** Closed by the page itself, until somebody looks at it: a browser has six HTTP/1.1 connections for all tabs of a host. */
export const CLOSE_PAUSED = 4000;

let refusals = 0;

/**
 * Open `address` (the websocket's path, below `/ws/`), to hear everything after `position`; and `changed` at once where older
 * rows are others than at `revision`, if the page knows its own.
 */
export function openSource(address, position, revision) {
  const url = new URL(address, location.href);
  url.searchParams.set("after", position);
  if (revision !== undefined) url.searchParams.set("revision", revision);
  if (refusals >= TRY_SOCKET_TIMES) {
    refusals = 0;
    url.pathname = url.pathname.replace(/^\/ws\//, "/sse/");
    return new Stream(url);
  }
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url);
  // Without a network nothing opens: that says nothing about websockets.
  if (navigator.onLine) refusals += 1;
  socket.addEventListener("open", () => (refusals = 0));
  return socket;
}

/** An event stream that behaves like a websocket. It never comes back by itself: the feed does, with its position. */
class Stream extends EventTarget {
  constructor(url) {
    super();
    this.source = new EventSource(url);
    this.heardAt = performance.now();
    this.source.addEventListener("open", () => this.dispatchEvent(new Event("open")));
    this.source.addEventListener("message", (event) => this.hear(event));
    this.source.addEventListener("heartbeat", (event) => this.hear(event));
    this.source.addEventListener("error", (event) => {
      const mayNotListen = event.data && JSON.parse(event.data).code === "not_allowed";
      this.close(mayNotListen ? CLOSE_NOT_ALLOWED : CLOSE_BROKEN);
    });
    this.pauseWhenHidden = () => document.hidden && this.close();
    document.addEventListener("visibilitychange", this.pauseWhenHidden);
    queueMicrotask(this.pauseWhenHidden);
  }

  hear(event) {
    this.heardAt = performance.now();
    this.dispatchEvent(new MessageEvent("message", { data: event.data }));
  }

  /** Nothing can be sent; a ping is answered for the server as long as its heartbeats come. */
  send() {
    if (performance.now() - this.heardAt < SILENCE_MS) {
      this.dispatchEvent(new MessageEvent("message", { data: '{"type":"pong"}' }));
    }
  }

  close(code = CLOSE_PAUSED) {
    if (this.isOver) return;
    this.isOver = true;
    this.source.close();
    document.removeEventListener("visibilitychange", this.pauseWhenHidden);
    this.dispatchEvent(new CloseEvent("close", { code }));
  }
}
