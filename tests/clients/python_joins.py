"""LiveKit's unchanged native SDK (libwebrtc): how long joins take.

    python_joins.py URL TOKEN...

Joins once with each token, one after the other, and prints the event `joined` as a JSON object: for each join the
milliseconds from the call of `connect` to its end, and to the first decoded video frame. The room must have video.
"""

import asyncio
import json
import os
import sys
import time

from livekit import rtc

PATIENCE = 20


async def join(url: str, token: str) -> tuple[float, float]:
    room = rtc.Room()
    video = asyncio.get_running_loop().create_future()

    @room.on("track_subscribed")
    def _(track, publication, participant):
        if track.kind == rtc.TrackKind.KIND_VIDEO and not video.done():
            video.set_result(track)

    begun = time.monotonic()
    await room.connect(url, token)
    joined = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        async for _ in rtc.VideoStream(await video):
            break
    decoded = time.monotonic()
    await room.disconnect()
    await asyncio.sleep(0.2)
    return (joined - begun) * 1000, (decoded - begun) * 1000


async def main() -> None:
    url, *tokens = sys.argv[1:]
    times = [await join(url, token) for token in tokens]
    print(json.dumps({"event": "joined", "join_ms": [one for one, _ in times], "media_ms": [one for _, one in times]}))


if __name__ == "__main__":
    asyncio.run(main())
    # Without os._exit the SDK's native threads may abort the process at its end.
    sys.stdout.flush()
    os._exit(0)
