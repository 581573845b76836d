// A relay on libdatachannel: forwards each RTP packet of the camera to every viewer, with the viewer's payload type and SSRC.
// One JSON object a line in and out: {"upstream":1} -> {"sdp":offer}; {"answer":sdp} -> {}; {"viewer":offer} -> {"sdp":answer}.
import { createInterface } from "node:readline";
import { PeerConnection, Video } from "node-datachannel";

const FEEDBACK = ["nack pli", "ccm fir"];
const viewers = [];
let upstream, incoming;

function newPeer(name) {
  return new PeerConnection(name, { iceServers: [], disableAutoNegotiation: true });
}

function gathered(peer) {
  return new Promise((resolve) => {
    const done = () => resolve(peer.localDescription().sdp);
    peer.onGatheringStateChange((state) => state === "complete" && done());
    peer.setLocalDescription();
    if (peer.gatheringState() === "complete") done();
  });
}

function video(mid, direction, payloadType, profile) {
  const media = new Video(mid, direction);
  media.addH264Codec(payloadType, profile);
  for (const kind of FEEDBACK) media.parseSdpLine(`a=rtcp-fb:${payloadType} ${kind}`);
  return media;
}

async function openUpstream() {
  upstream = newPeer("camera");
  incoming = upstream.addTrack(
    video("0", "RecvOnly", 96, "profile-level-id=42001f;packetization-mode=1;level-asymmetry-allowed=1"),
  );
  incoming.onMessage((packet) => {
    if (packet[1] >= 192 && packet[1] <= 223) return; // RTCP
    const mark = packet[1] & 0x80;
    for (const viewer of viewers) {
      if (!viewer.isOpen) continue;
      packet[1] = mark | viewer.payloadType;
      packet.writeUInt32BE(viewer.ssrc, 8);
      try {
        viewer.track.sendMessageBinary(packet);
      } catch {
        viewer.isOpen = false; // it left between two packets
      }
    }
  });
  return { sdp: await gathered(upstream) };
}

async function join(offer) {
  const [, payloadType, profile] = offer.match(/a=fmtp:(\d+) (.*profile-level-id=42e01f.*)/);
  const mid = offer.match(/a=mid:(\S+)/)[1];
  const peer = newPeer(`viewer-${viewers.length}`);
  const viewer = { peer, payloadType: Number(payloadType), ssrc: 1000 + viewers.length, isOpen: false };
  const media = video(mid, "SendOnly", viewer.payloadType, profile.trim());
  media.addSSRC(viewer.ssrc, "relay", "relay", "video");
  viewer.track = peer.addTrack(media);
  viewer.track.onOpen(() => {
    viewer.isOpen = true;
    incoming.requestKeyframe();
  });
  viewer.track.onClosed(() => {
    viewer.isOpen = false;
  });
  viewers.push(viewer);
  peer.setRemoteDescription(offer, "offer");
  return { sdp: await gathered(peer) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  let answer = {};
  if (asked.upstream) answer = await openUpstream();
  else if (asked.answer) upstream.setRemoteDescription(asked.answer, "answer");
  else answer = await join(asked.viewer);
  process.stdout.write(JSON.stringify(answer) + "\n");
}
process.exit(0);
