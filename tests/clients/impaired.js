// LiveKit's client on a page without any user interface: one page publishes camera and microphone, another
// one subscribes to them and measures what it receives.
const { Room, RoomEvent, Track, VideoPresets, VideoQuality } = LivekitClient;

// Milliseconds between two samples.
const PERIOD = 250;
// A pause between two frames is a freeze when it is longer than the mean of the last frames' by this many
// milliseconds, and than three times the mean: the definition of `freezeCount` in W3C's webrtc-stats.
const FREEZE = 150;

const tracks = {};
let room;
let lastFrame = performance.now();

async function connect(url, token) {
  room = new Room();
  room.on(RoomEvent.TrackSubscribed, (track, publication) => {
    tracks[track.kind] = track;
    track.attach(track.kind === Track.Kind.Video ? document.querySelector("video") : undefined);
    if (track.kind === Track.Kind.Video) publication.setVideoQuality(VideoQuality.HIGH);
  });
  await room.connect(url, token);
}

// Publishes 720p in three layers, and Opus without pauses: in silence, too, a lost packet is concealed.
window.publish = async (url, token) => {
  await connect(url, token);
  const { resolution } = VideoPresets.h720;
  await room.localParticipant.setCameraEnabled(true, { resolution }, { videoCodec: "vp8", simulcast: true });
  await room.localParticipant.setMicrophoneEnabled(true, {}, { dtx: false });
  return true;
};

window.subscribe = async (url, token) => {
  await connect(url, token);
  const video = document.querySelector("video");
  const shown = (now) => {
    lastFrame = now;
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
  return true;
};

async function inbound(kind) {
  const report = await tracks[kind]?.getRTCStatsReport();
  return [...(report?.values() ?? [])].find((entry) => entry.type === "inbound-rtp") ?? {};
}

// What has been received up to now. Chromium counts a freeze when it ends, so the open one is added.
async function sample() {
  const [video, audio] = await Promise.all([inbound("video"), inbound("audio")]);
  const at = performance.now();
  const mean = (1000 * (video.totalInterFrameDelay ?? 0)) / Math.max(video.framesDecoded ?? 0, 1);
  const pause = at - lastFrame;
  const open = pause > Math.max(3 * mean, mean + FREEZE) ? pause / 1000 : 0;
  return { at, video, audio, frozen: (video.totalFreezesDuration ?? 0) + open };
}

// Measures for so many seconds.
window.measure = async (seconds) => {
  const samples = [await sample()];
  const first = samples[0];
  while (samples.length <= (seconds * 1000) / PERIOD) {
    const next = first.at + samples.length * PERIOD;
    await new Promise((done) => setTimeout(done, next - performance.now()));
    samples.push(await sample());
  }
  const last = samples.at(-1);
  const grown = (kind, field, from = first, to = last) => (to[kind][field] ?? 0) - (from[kind][field] ?? 0);
  const ratio = (kind, part, whole) => grown(kind, part) / Math.max(grown(kind, whole), 1);
  const elapsed = (last.at - first.at) / 1000;
  // The samples between which frames were decoded; `frameWidth` alone also says how a frozen image is.
  const moving = samples.filter((now, at) => at > 0 && grown("video", "framesDecoded", samples[at - 1], now) > 0);
  const widths = moving.map((now) => now.video.frameWidth ?? 0);
  const since = (width) => {
    const at = moving.find((now) => (now.video.frameWidth ?? 0) >= width)?.at;
    return at === undefined ? null : (at - first.at) / 1000;
  };
  return {
    seconds: elapsed,
    frames_per_second: grown("video", "framesDecoded") / elapsed,
    freezes: grown("video", "freezeCount"),
    frozen_seconds: Math.max(last.frozen - first.frozen, 0),
    // The width most of the time.
    width: widths.toSorted((one, other) => one - other)[Math.floor(widths.length / 2)] ?? 0,
    last_width: widths.at(-1) ?? 0,
    seconds_to_640: since(640),
    seconds_to_1280: since(1280),
    concealed_percent: 100 * ratio("audio", "concealedSamples", "totalSamplesReceived"),
    video_kbps: (grown("video", "bytesReceived") * 8) / elapsed / 1000,
    video_delay_ms: 1000 * ratio("video", "jitterBufferDelay", "jitterBufferEmittedCount"),
    audio_delay_ms: 1000 * ratio("audio", "jitterBufferDelay", "jitterBufferEmittedCount"),
    video_packets_lost: grown("video", "packetsLost"),
    audio_packets_lost: grown("audio", "packetsLost"),
    nacks: grown("video", "nackCount"),
    plis: grown("video", "pliCount"),
  };
};

// The layers that this page sends, over so many seconds, smallest first.
window.sent = async (seconds) => {
  const layers = async () => {
    const [publication] = room.localParticipant.videoTrackPublications.values();
    const report = await publication.track.getRTCStatsReport();
    return [...report.values()].filter((entry) => entry.type === "outbound-rtp");
  };
  const before = new Map((await layers()).map((layer) => [layer.rid, layer]));
  await new Promise((done) => setTimeout(done, seconds * 1000));
  const sent = (await layers()).map((layer) => {
    const grown = (field) => (layer[field] ?? 0) - (before.get(layer.rid)?.[field] ?? 0);
    return {
      width: layer.frameWidth ?? 0,
      frames_per_second: grown("framesEncoded") / seconds,
      kbps: ((grown("bytesSent") - grown("retransmittedBytesSent")) * 8) / seconds / 1000,
    };
  });
  return sent.toSorted((one, other) => one.width - other.width);
};
