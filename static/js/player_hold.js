/*
 * How long pictures are held back, so that what was lost on its way comes again before it is needed: not at all while
 * nothing is lost, a moment longer where something is, and longer still where the picture stood still in spite of it.
 */
const LOOK_EVERY_MS = 1000;
// A packet is asked for again after a tenth of a second if the first try was lost too: time for two tries.
const FIRST_MS = 250;
const MORE_MS = 150;
const MOST_MS = 700;
// Two minutes without a loss: as near to the moment as before.
const CALM_MS = 120_000;
// Slowly, a fifth slower than life: all at once, the picture would stand still for as long.
const STEP_MS = 20;
const STEP_EVERY_MS = 100;

export class Hold {
  /** Look after the video that `peer` receives, until `stop`. */
  constructor(peer) {
    this.receiver = peer.getReceivers().find((receiver) => receiver.track.kind === "video");
    this.ms = 0;
    this.wantedMs = 0;
    this.lost = 0;
    this.freezes = 0;
    this.lostAt = 0;
    if (!this.receiver || !("jitterBufferTarget" in this.receiver)) return;
    this.timers = [setInterval(() => this.look(), LOOK_EVERY_MS), setInterval(() => this.step(), STEP_EVERY_MS)];
  }

  async look() {
    const reports = Array.from((await this.receiver.getStats()).values());
    const { nackCount: lost = 0, freezeCount: freezes = 0 } = reports.find((report) => report.type === "inbound-rtp") ?? {};
    const now = performance.now();
    if (lost > this.lost) {
      this.lostAt = now;
      // Where nothing is lost a picture stands still because the camera does: to wait longer would not help.
      const isTooShort = this.ms > 0 && this.ms === this.wantedMs && freezes > this.freezes;
      this.wantedMs = isTooShort ? Math.min(this.ms + MORE_MS, MOST_MS) : Math.max(this.wantedMs, FIRST_MS);
    } else if (now - this.lostAt > CALM_MS) {
      this.wantedMs = 0;
    }
    this.lost = lost;
    this.freezes = freezes;
  }

  step() {
    if (this.ms === this.wantedMs) return;
    this.ms = this.ms < this.wantedMs ? Math.min(this.ms + STEP_MS, this.wantedMs) : Math.max(this.ms - STEP_MS, this.wantedMs);
    this.receiver.jitterBufferTarget = this.ms || null;
  }

  stop() {
    for (const timer of this.timers ?? []) clearInterval(timer);
  }
}
