"""LiveKit's unchanged native SDK (libwebrtc) in a meeting.

    python_client.py URL TOKEN [--publish] [--until-video N] [--until-audio N] [--until-data TEXT] [--send-data TEXT] [--seconds S]

Prints each event as a JSON object per line. The status is 0 when everything that the options wait for
has happened, 1 after a timeout, 2 when the join was refused.

With --hold it stays until standard input closes and reads a command from each line:
    {"do": "send", "text": "hello", "to": ["anna"], "reliable": true}
    {"do": "mute", "kind": "audio"}    and "unmute"
    {"do": "watch", "participants": ["anna"], "frames": 10}   prints `watched` after that many more
        decoded video frames and received audio packets of each of them; each must have been audible once
"""

import argparse
import asyncio
import collections
import json
import os
import sys
import time

import numpy as np
from livekit import rtc


def emit(**event):
    print(json.dumps(event), flush=True)


async def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("token")
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--until-video", type=int, default=0)
    parser.add_argument("--until-audio", type=int, default=0)
    parser.add_argument("--until-data")
    parser.add_argument("--send-data")
    parser.add_argument("--hold", action="store_true", help="stay until standard input closes")
    parser.add_argument("--seconds", type=float, default=40)
    options = parser.parse_args()

    room = rtc.Room()
    video, audio = set(), set()
    video_frames, audio_tracks = collections.Counter(), {}
    data = asyncio.Event()
    changed = asyncio.Event()
    tasks = []
    interrupted = 0.0

    async def receive_video(track, identity):
        async for _ in rtc.VideoStream(track):
            video_frames[identity] += 1
            if identity not in video:
                video.add(identity)
                emit(event="video", participant=identity)
                changed.set()

    async def receive_audio(track, identity):
        audio_tracks[identity] = track
        async for frame in rtc.AudioStream(track):
            if np.abs(np.frombuffer(frame.frame.data, dtype=np.int16)).max() <= 200:
                continue
            if identity not in audio:
                audio.add(identity)
                emit(event="audio", participant=identity)
                changed.set()

    @room.on("track_subscribed")
    def _(track, publication, participant):
        emit(event="subscribed", participant=participant.identity, kind=int(track.kind))
        if track.kind == rtc.TrackKind.KIND_VIDEO:
            tasks.append(asyncio.create_task(receive_video(track, participant.identity)))
        else:
            tasks.append(asyncio.create_task(receive_audio(track, participant.identity)))

    @room.on("data_received")
    def _(packet):
        text = packet.data.decode(errors="replace")
        identity = packet.participant.identity if packet.participant else None
        emit(event="data", topic=packet.topic, participant=identity, text=text if len(text) < 20_000 else len(text))
        if options.until_data is not None and text == options.until_data:
            data.set()
            changed.set()

    @room.on("track_muted")
    def _(participant, publication):
        emit(event="muted", participant=participant.identity, kind=int(publication.kind))

    @room.on("track_unmuted")
    def _(participant, publication):
        emit(event="unmuted", participant=participant.identity, kind=int(publication.kind))

    @room.on("participant_connected")
    def _(participant):
        emit(event="participant-connected", participant=participant.identity)

    @room.on("participant_disconnected")
    def _(participant):
        emit(event="participant-disconnected", participant=participant.identity)

    @room.on("reconnecting")
    def _():
        nonlocal interrupted
        interrupted = time.monotonic()
        emit(event="reconnecting")

    @room.on("reconnected")
    def _():
        emit(event="reconnected", ms=round((time.monotonic() - interrupted) * 1000))

    @room.on("disconnected")
    def _(reason):
        emit(event="disconnected", reason=str(reason))

    try:
        await room.connect(options.url, options.token)
    except Exception as error:  # the test checks the reason
        emit(event="refused", reason=str(error))
        return 2
    emit(event="connected", sid=room.local_participant.sid, attributes=dict(room.local_participant.attributes))

    async def camera(source):
        frame = np.zeros((180, 320, 4), dtype=np.uint8)
        step = 0
        while True:
            frame[:, :, 0] = (step * 3) % 255
            frame[:, (step * 4) % 300 : (step * 4) % 300 + 20, 1] = 255
            source.capture_frame(rtc.VideoFrame(320, 180, rtc.VideoBufferType.RGBA, frame.tobytes()))
            step += 1
            await asyncio.sleep(1 / 15)

    async def microphone(source):
        phase = 0
        while True:
            tone = (np.sin((np.arange(480) + phase) * 2 * np.pi * 440 / 48000) * 12000).astype(np.int16)
            phase += 480
            await source.capture_frame(rtc.AudioFrame(tone.tobytes(), 48000, 1, 480))

    published = {}
    if options.publish:
        camera_source = rtc.VideoSource(320, 180)
        video_track = rtc.LocalVideoTrack.create_video_track("camera", camera_source)
        await room.local_participant.publish_track(video_track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA))
        microphone_source = rtc.AudioSource(48000, 1)
        audio_track = rtc.LocalAudioTrack.create_audio_track("microphone", microphone_source)
        await room.local_participant.publish_track(audio_track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
        published.update(video=video_track, audio=audio_track)
        tasks.append(asyncio.create_task(camera(camera_source)))
        tasks.append(asyncio.create_task(microphone(microphone_source)))
        emit(event="published")

    def done():
        return (
            len(video) >= options.until_video
            and len(audio) >= options.until_audio
            and (options.until_data is None or data.is_set())
        )

    async def audio_packets(identity):
        stats = await audio_tracks[identity].get_stats() if identity in audio_tracks else []
        return sum(one.inbound_rtp.received.packets_received for one in stats if one.HasField("inbound_rtp"))

    # After a participant was audible once, their packets are counted and not their level: a browser's
    # audio processing may take the beeps of its fake microphone for noise.
    async def watch(participants, frames):
        before = {one: (video_frames[one], await audio_packets(one)) for one in participants}
        rounds = 0
        while True:
            now = {one: (video_frames[one], await audio_packets(one)) for one in participants}
            grown = lambda one: all(n >= b + frames for n, b in zip(now[one], before[one]))
            if all(one in audio and grown(one) for one in participants):
                break
            await asyncio.sleep(0.1)
            rounds += 1
            if rounds % 50 == 0:
                print(f"watching: before {before}, now {now}, audible {sorted(audio)}", file=sys.stderr, flush=True)
        emit(event="watched", now=now)

    async def run_command(command):
        match command["do"]:
            case "send":
                await room.local_participant.publish_data(
                    command["text"],
                    reliable=command.get("reliable", True),
                    destination_identities=command.get("to", []),
                    topic="test",
                )
            case "mute":
                published[command["kind"]].mute()
            case "unmute":
                published[command["kind"]].unmute()
            case "watch":
                await watch(command["participants"], command["frames"])
            case other:
                emit(event="unknown", command=other)

    async def attempt(command):
        try:
            await run_command(command)
        except Exception as error:
            emit(event="failed", command=command, error=repr(error))

    async def read_commands():
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            tasks.append(asyncio.create_task(attempt(json.loads(line))))

    reading = asyncio.create_task(read_commands()) if options.hold else None
    status = 0
    try:
        async with asyncio.timeout(options.seconds):
            while not done():
                changed.clear()
                if options.send_data:
                    await room.local_participant.publish_data(options.send_data, reliable=True, topic="test")
                try:
                    await asyncio.wait_for(changed.wait(), 0.5)
                except asyncio.TimeoutError:
                    pass
    except TimeoutError:
        emit(event="timeout", video=sorted(video), audio=sorted(audio), data=data.is_set())
        status = 1
    emit(event="done", status=status)
    if reading and status == 0:
        await reading
    for task in tasks:
        task.cancel()
    await room.disconnect()
    # Without os._exit the SDK's native threads may abort the process at its end.
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
