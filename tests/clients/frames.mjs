// Encodes video and audio with Chromium for clients that have no encoder: `node frames.mjs` writes
// go/media/*.bin, each a sequence of (length as 32 bits, big endian; frame). A video file starts with
// its key frame.
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import puppeteer from "puppeteer-core";

const server = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<title>frames</title>"));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu"],
});
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${server.address().port}/`);

async function video(codec, width, height, extra) {
  return await page.evaluate(
    async (codec, width, height, extra) => {
      const frames = [];
      const encoder = new VideoEncoder({
        output: (chunk) => {
          const bytes = new Uint8Array(chunk.byteLength);
          chunk.copyTo(bytes);
          frames.push([...bytes]);
        },
        error: (error) => frames.push(String(error)),
      });
      encoder.configure({ codec, width, height, bitrate: 100_000, framerate: 15, latencyMode: "realtime", ...extra });
      const canvas = new OffscreenCanvas(width, height);
      const paint = canvas.getContext("2d");
      for (let index = 0; index < 6; index++) {
        paint.fillStyle = "#204080";
        paint.fillRect(0, 0, width, height);
        paint.fillStyle = "#f0c020";
        paint.fillRect((index * width) / 8, height / 4, width / 8, height / 2);
        const frame = new VideoFrame(canvas, { timestamp: index * 66_666 });
        encoder.encode(frame, { keyFrame: index === 0 });
        frame.close();
      }
      await encoder.flush();
      return frames;
    },
    codec,
    width,
    height,
    extra,
  );
}

async function audio() {
  return await page.evaluate(async () => {
    const frames = [];
    const encoder = new AudioEncoder({
      output: (chunk) => {
        const bytes = new Uint8Array(chunk.byteLength);
        chunk.copyTo(bytes);
        frames.push([...bytes]);
      },
      error: (error) => frames.push(String(error)),
    });
    encoder.configure({ codec: "opus", sampleRate: 48000, numberOfChannels: 1, bitrate: 24_000 });
    for (let index = 0; index < 12; index++) {
      const data = Float32Array.from({ length: 960 }, (_, at) => 0.5 * Math.sin(((index * 960 + at) * 2 * Math.PI * 450) / 48000));
      encoder.encode(new AudioData({ format: "f32", sampleRate: 48000, numberOfFrames: 960, numberOfChannels: 1, timestamp: index * 20_000, data }));
    }
    await encoder.flush();
    return frames;
  });
}

function keep(name, frames) {
  if (frames.length === 0 || frames.some((frame) => typeof frame === "string")) throw new Error(`${name}: ${frames}`);
  const parts = frames.flatMap((frame) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(frame.length);
    return [length, Buffer.from(frame)];
  });
  const bytes = Buffer.concat(parts);
  writeFileSync(`go/media/${name}.bin`, bytes);
  console.log(name, frames.length, "frames", bytes.length, "bytes");
}

mkdirSync("go/media", { recursive: true });
for (const [quality, width, height] of [["low", 80, 48], ["medium", 160, 96], ["high", 320, 192]]) {
  keep(`vp8-${quality}`, await video("vp8", width, height, {}));
}
keep("h264-high", await video("avc1.42e01f", 320, 192, { avc: { format: "annexb" } }));
keep("opus", (await audio()).slice(2));
await browser.close();
server.close();
