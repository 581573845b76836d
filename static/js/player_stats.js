/*
 * How a live picture travels, for those who want to know: read from the browser once a second, and only while the
 * details are open (`data-player-stats`, templates/media/_player.html).
 */
const EVERY_MS = 1000;
const WAYS = { host: "directly", srflx: "through a router", prflx: "through a router", relay: "through a TURN server" };

export class Stats {
  /** `session` gives the player's present session, or null. */
  constructor(details, session) {
    this.details = details;
    this.session = session;
    this.fields = Object.fromEntries(
      Array.from(details.querySelectorAll("[data-stat]"), (field) => [field.dataset.stat, field]),
    );
    details.addEventListener("toggle", () => (details.open ? this.begin() : clearInterval(this.timer)));
  }

  begin() {
    clearInterval(this.timer);
    this.before = null;
    this.timer = setInterval(() => this.read(), EVERY_MS);
    this.read();
  }

  async read() {
    const session = this.session();
    if (!session || session.closed || !this.details.isConnected) return this.show({});
    const reports = Array.from((await session.peer.getStats()).values());
    const video = reports.find((report) => report.type === "inbound-rtp" && report.kind === "video");
    if (!video) return this.show({});
    const transport = reports.find((report) => report.type === "transport");
    const pair = reports.find((report) => report.id === transport?.selectedCandidatePairId);
    const local = reports.find((report) => report.id === pair?.localCandidateId);
    const codec = reports.find((report) => report.id === video.codecId);
    const before = this.before?.session === session ? this.before.video : null;
    this.before = { session, video };
    const took = before ? video.timestamp - before.timestamp : 0;
    const sent = video.packetsReceived + video.packetsLost;
    return this.show({
      size: video.frameWidth ? `${video.frameWidth} × ${video.frameHeight}, ${Math.round(video.framesPerSecond ?? 0)} pictures a second` : "",
      bitrate: took > 0 ? `${Math.round(((video.bytesReceived - before.bytesReceived) * 8) / took)} kbit/s` : "",
      loss: sent > 0 ? `${((Math.max(0, video.packetsLost) / sent) * 100).toFixed(1)} %, ${video.freezeCount ?? 0} freezes` : "",
      delay: pair?.currentRoundTripTime === undefined ? "" : `${Math.round(pair.currentRoundTripTime * 1000)} ms there and back`,
      hold: session.hold?.ms ? `${session.hold.ms} ms, so that lost packets come again in time` : "not at all",
      first: session.firstFrameMs ? `${(session.firstFrameMs / 1000).toFixed(1)} s after asking` : "",
      way: [session.path === "relay" ? "Relayed by the portal" : "Direct from Ring", local && `${WAYS[local.candidateType] ?? ""} (${local.protocol})`].filter(Boolean).join(", "),
      codec: codec?.mimeType?.replace("video/", "") ?? "",
    });
  }

  show(values) {
    for (const [name, field] of Object.entries(this.fields)) field.textContent = values[name] || "–";
  }
}
