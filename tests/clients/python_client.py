"""LiveKit's unchanged native SDK (libwebrtc) in a meeting.

    python_client.py URL TOKEN [--publish] [--until-video N] [--until-audio N] [--until-data TEXT] [--send-data TEXT] [--seconds S]

Prints one JSON object a line for what happens; ends with status 0 when everything that it was
told to wait for has happened, with 1 when the time is over, with 2 when it was not let in.

With --hold it stays until standard input closes and carries out commands from there, one a line:
    {"do": "send", "text": "hello", "to": ["anna"], "reliable": true}
    {"do": "mute", "kind": "audio"}    and "unmute"
    {"do": "watch", "people": ["anna"], "frames": 10}   says `watched` after that many more decoded
        pictures and audible sounds (10 ms each) of each of them
"""

import argparse
import asyncio
import collections
import json
import os
import sys

import numpy as np
from livekit import rtc


def say(**what):
    print(json.dumps(what), flush=True)


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
    pictures_of, sound_of = collections.Counter(), {}
    data = asyncio.Event()
    changed = asyncio.Event()
    tasks = []

    async def see(track, who):
        async for _ in rtc.VideoStream(track):
            pictures_of[who] += 1
            if who not in video:
                video.add(who)
                say(event="video", of=who)
                changed.set()

    async def hear(track, who):
        sound_of[who] = track
        async for frame in rtc.AudioStream(track):
            if np.abs(np.frombuffer(frame.frame.data, dtype=np.int16)).max() <= 200:
                continue
            if who not in audio:
                audio.add(who)
                say(event="audio", of=who)
                changed.set()

    @room.on("track_subscribed")
    def _(track, publication, participant):
        say(event="subscribed", of=participant.identity, kind=int(track.kind))
        if track.kind == rtc.TrackKind.KIND_VIDEO:
            tasks.append(asyncio.create_task(see(track, participant.identity)))
        else:
            tasks.append(asyncio.create_task(hear(track, participant.identity)))

    @room.on("data_received")
    def _(packet):
        text = packet.data.decode(errors="replace")
        who = packet.participant.identity if packet.participant else None
        say(event="data", topic=packet.topic, of=who, text=text if len(text) < 20_000 else len(text))
        if options.until_data is not None and text == options.until_data:
            data.set()
            changed.set()

    @room.on("track_muted")
    def _(participant, publication):
        say(event="muted", of=participant.identity, kind=int(publication.kind))

    @room.on("track_unmuted")
    def _(participant, publication):
        say(event="unmuted", of=participant.identity, kind=int(publication.kind))

    @room.on("participant_connected")
    def _(participant):
        say(event="arrived", of=participant.identity)

    @room.on("participant_disconnected")
    def _(participant):
        say(event="left", of=participant.identity)

    @room.on("disconnected")
    def _(reason):
        say(event="disconnected", reason=str(reason))

    try:
        await room.connect(options.url, options.token)
    except Exception as error:  # the reason is what the test wants to see
        say(event="refused", reason=str(error))
        return 2
    say(event="connected", sid=room.local_participant.sid, attributes=dict(room.local_participant.attributes))

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
        pictures = rtc.VideoSource(320, 180)
        track = rtc.LocalVideoTrack.create_video_track("camera", pictures)
        await room.local_participant.publish_track(track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA))
        sound = rtc.AudioSource(48000, 1)
        voice = rtc.LocalAudioTrack.create_audio_track("microphone", sound)
        await room.local_participant.publish_track(voice, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
        published.update(video=track, audio=voice)
        tasks.append(asyncio.create_task(camera(pictures)))
        tasks.append(asyncio.create_task(microphone(sound)))
        say(event="published")

    def done():
        return (
            len(video) >= options.until_video
            and len(audio) >= options.until_audio
            and (options.until_data is None or data.is_set())
        )

    async def packets_of(who):
        stats = await sound_of[who].get_stats() if who in sound_of else []
        return sum(one.inbound_rtp.received.packets_received for one in stats if one.HasField("inbound_rtp"))

    # Sound must have been audible once; whether it goes on, its packets tell: a browser's processing
    # may take the beeps of its fake microphone for noise.
    async def watch(people, frames):
        then = {who: (pictures_of[who], await packets_of(who)) for who in people}
        rounds = 0
        while True:
            now = {who: (pictures_of[who], await packets_of(who)) for who in people}
            grown = lambda who: all(n >= t + frames for n, t in zip(now[who], then[who]))
            if all(who in audio and grown(who) for who in people):
                break
            await asyncio.sleep(0.1)
            rounds += 1
            if rounds % 50 == 0:
                print(f"watching: then {then}, now {now}, audible {sorted(audio)}", file=sys.stderr, flush=True)
        say(event="watched", now=now)

    async def carry_out(command):
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
                await watch(command["people"], command["frames"])
            case other:
                say(event="unknown", command=other)

    async def attempt(command):
        try:
            await carry_out(command)
        except Exception as error:
            say(event="failed", command=command, error=repr(error))

    async def listen():
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            tasks.append(asyncio.create_task(attempt(json.loads(line))))

    listening = asyncio.create_task(listen()) if options.hold else None
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
        say(event="timeout", video=sorted(video), audio=sorted(audio), data=data.is_set())
        status = 1
    say(event="done", status=status)
    if listening and status == 0:
        await listening
    for task in tasks:
        task.cancel()
    await room.disconnect()
    # The library's own threads may abort the process while they are taken down at its end.
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
