// A real Chromium, controlled with the commands of `driven.mjs` and these:
//   {"do":"open","page":"anna","url":"http://...","camera":[320,180]}
//       `camera` is the size of the camera's video
//   {"do":"screenshot","page":"anna","file":"/tmp/x.png","width":390,"height":844}
//   {"do":"media","page":"anna","features":[...]}         emulates CSS media features
//   {"do":"press","page":"anna","keys":["Tab"]}
// It ends, with Chromium, when standard input closes.
import puppeteer from "puppeteer-core";
import { drive, start } from "./driven.mjs";

// Turns audio processing off, which may take the beeps of the fake microphone for noise. Sets the size
// of the camera when a test asks for a small one: all pages encode and decode on few cores.
function plainDevices(camera) {
  const media = navigator.mediaDevices;
  if (!media) return;
  const ask = media.getUserMedia.bind(media);
  const plain = { noiseSuppression: false, echoCancellation: false, autoGainControl: false };
  media.getUserMedia = ({ audio, video }) => {
    if (video && camera) video = { width: camera[0], height: camera[1], frameRate: 15 };
    if (audio) audio = { ...(audio === true ? {} : audio), ...plain };
    return ask({ audio, video });
  };
}

const [profile, ...flags] = process.argv.slice(2);
const { address } = await start(
  "chromium",
  process.env.CHROMIUM ?? "/usr/bin/chromium",
  [
    "--headless=new",
    "--remote-debugging-port=0",
    `--user-data-dir=${profile}`,
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    "--use-mock-keychain",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-breakpad",
    "--disable-sync",
    "--disable-extensions",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    // Chromium gathers no loopback candidate by itself.
    "--allow-loopback-in-peer-connection",
    ...flags,
    "about:blank",
  ],
  /^DevTools listening on (ws:.*)$/,
);
const browser = await puppeteer.connect({
  browserWSEndpoint: address,
  protocolTimeout: 120_000,
  defaultViewport: null,
});
await drive(
  browser,
  async (page, { width = 1100, height = 750, camera = null }) => {
    await page.setViewport({ width, height });
    await page.evaluateOnNewDocument(plainDevices, camera);
  },
  {
    async screenshot(page, { file, width, height, full }) {
      if (width) await page.setViewport({ width, height });
      await page.screenshot({ path: file, fullPage: full ?? false });
      return true;
    },
    async media(page, { features }) {
      await page.emulateMediaFeatures(features);
      return true;
    },
    async press(page, { keys }) {
      for (const key of keys) await page.keyboard.press(key);
      return true;
    },
  },
);
await browser.close().catch(() => {});
process.exit(0);
