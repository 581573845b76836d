/*
 * Why no live picture got through, in words and with what to do: from what the browser gathered and tried.
 *
 * Browsers say little: which of their own addresses they found (`types`, of `RTCIceCandidate`), which STUN or TURN
 * server did not answer (`errors`), and whether the two sides ever reached each other.
 */

const ADVICE = {
  webrtc_off: {
    words: "This browser found no way to receive video.",
    advice: "A VPN, a privacy extension or a policy of your company may switch WebRTC off. Allow it for this page, or try another browser.",
  },
  udp_blocked: {
    words: "UDP is blocked: this network lets no video through.",
    advice: "Try another network, a phone’s for example, or ask whoever runs this one to allow outgoing UDP.",
  },
  no_relay: {
    words: "No relay candidate: the TURN server of this portal could not be reached.",
    advice: "Try another network, or tell whoever runs this portal that its TURN server does not answer.",
  },
  no_way: {
    words: "No way was found between this browser and the video.",
    advice: "A firewall on this network, or on the way, blocks it. Try another network, or ask whoever runs this portal for a TURN server.",
  },
  no_video: {
    words: "The connection stands, but no video arrived.",
    advice: "The camera may be busy or its Wi-Fi weak. Try again in a moment.",
  },
};

/** Collects what `peer` finds out about its network; `iceServers` as an RTCPeerConnection takes them. */
export class Reachability {
  constructor(peer, iceServers) {
    this.types = new Set();
    this.errors = new Set();
    this.wasConnected = false;
    const urls = iceServers.flatMap((server) => server.urls);
    this.usesStun = urls.some((url) => /^stuns?:/.test(url));
    this.usesTurn = urls.some((url) => /^turns?:/.test(url));
    peer.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate?.type) this.types.add(candidate.type);
    });
    peer.addEventListener("icecandidateerror", ({ url }) => this.errors.add(url?.split(":")[0] ?? ""));
    peer.addEventListener("iceconnectionstatechange", () => {
      if (["connected", "completed"].includes(peer.iceConnectionState)) this.wasConnected = true;
    });
  }

  get diagnosis() {
    return diagnose(this);
  }
}

/** One of ADVICE with its `code`, when nothing has arrived. */
export function diagnose({ types, errors, wasConnected, usesStun, usesTurn }) {
  const code = codeOf({ types, errors, wasConnected, usesStun, usesTurn });
  return { code, ...ADVICE[code] };
}

function codeOf({ types, errors, wasConnected, usesStun, usesTurn }) {
  if (wasConnected) return "no_video";
  if (types.size === 0) return "webrtc_off";
  const reachedOut = types.has("srflx") || types.has("relay");
  const stunFailed = errors.has("stun") || errors.has("stuns");
  if (usesStun && !reachedOut && stunFailed) return "udp_blocked";
  if (usesTurn && !types.has("relay")) return "no_relay";
  return "no_way";
}
