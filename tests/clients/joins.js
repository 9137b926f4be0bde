// LiveKit's client on a page without any user interface: it joins again and again, and measures how long each join
// takes, and how long it takes until the first video frame is decoded.
const { Room, RoomEvent, Track } = LivekitClient;

// Milliseconds between two looks at a track's statistics.
const PERIOD = 5;
const PATIENCE = 20_000;

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function framesDecoded(track) {
  const report = await track?.getRTCStatsReport();
  const received = [...(report?.values() ?? [])].find((entry) => entry.type === "inbound-rtp");
  return received?.framesDecoded ?? 0;
}

// Joins once with each token. Milliseconds since the call of `connect`. `options` are those of the room.
window.joins = async (url, tokens, options) => {
  const times = { join_ms: [], media_ms: [] };
  for (const token of tokens) {
    const room = new Room(options);
    let video;
    room.on(RoomEvent.TrackSubscribed, (track) => {
      if (track.kind !== Track.Kind.Video) return;
      video = track;
      track.attach(document.querySelector("video"));
    });
    const begun = performance.now();
    await room.connect(url, token);
    times.join_ms.push(performance.now() - begun);
    while ((await framesDecoded(video)) === 0) {
      if (performance.now() - begun > PATIENCE) throw new Error("no video frame was decoded");
      await pause(PERIOD);
    }
    times.media_ms.push(performance.now() - begun);
    await room.disconnect();
    await pause(200);
  }
  return times;
};
