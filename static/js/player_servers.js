/*
 * The STUN and TURN servers a page came with, and fresh passwords when it lies open for long: TURN's last twelve hours
 * (media/ice.py), and a screen hangs for months. The endpoint names them again, as `Link` headers.
 */
const OLD_MS = 11 * 3_600_000;
const ASK_MS = 5000;
const LINK = /<([^>]+)>; rel="ice-server"(?:; username="([^"]*)"; credential="([^"]*)")?/g;

export class Servers {
  /** `known` as an RTCPeerConnection takes them. */
  constructor(known, endpoint) {
    this.known = known;
    this.endpoint = endpoint;
    // The clock of the day goes on while a machine sleeps; `performance.now` need not.
    this.knownAt = Date.now();
  }

  get areOld() {
    return this.known.some((server) => server.credential) && Date.now() - this.knownAt > OLD_MS;
  }

  /** Ask for them. Where nobody answers, those of before stay, and the next session asks again. */
  async renew() {
    const answer = await fetch(this.endpoint, { method: "HEAD", redirect: "error", signal: AbortSignal.timeout(ASK_MS) }).catch(() => null);
    const links = [...(answer?.headers.get("Link") ?? "").matchAll(LINK)];
    if (!links.length) return;
    this.known = links.map(([, urls, username, credential]) => (username ? { urls, username, credential } : { urls }));
    this.knownAt = Date.now();
  }
}
