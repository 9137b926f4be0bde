// A real Chromium, driven line by line: a JSON command comes on standard input, a JSON answer goes
// to standard output. The test decides what to do; this file only carries it out.
//   {"do":"open","page":"anna","url":"http://...","pictures":[320,180]}
//       opens a page with fake camera and microphone; `pictures` is the size that the camera gives
//   {"do":"script","page":"anna","file":"x.js"}           runs a script, whatever the page allows
//   {"do":"eval","page":"anna","code":"1+1"}              answers {"ok":2}
//   {"do":"wait","page":"anna","code":"expr","seconds":20} until the expression is truthy
//   {"do":"click","page":"anna","selector":"#join-button"}
//   {"do":"shot","page":"anna","file":"/tmp/x.png","width":390,"height":844}
//   {"do":"close","page":"anna"}
// It ends, with Chromium, when standard input closes.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const [profile, ...flags] = process.argv.slice(2);
// Chromium is started here and not by puppeteer, which would give it a process group of its own:
// whoever ends this group ends Chromium too.
const chromium = spawn(
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
  { stdio: ["ignore", "ignore", "pipe"] },
);
chromium.on("error", (error) => {
  console.error(`chromium cannot be started: ${error.message}`);
  process.exit(1);
});
const address = await new Promise((found, failed) => {
  chromium.on("exit", (status) => failed(new Error(`chromium ended with status ${status}`)));
  createInterface({ input: chromium.stderr }).on("line", (line) => {
    console.error(line);
    const listening = line.match(/^DevTools listening on (ws:.*)$/);
    if (listening) found(listening[1]);
  });
});
const browser = await puppeteer.connect({ browserWSEndpoint: address, protocolTimeout: 120_000, defaultViewport: null });
// The fake microphone beeps, which sound processing may take for noise; and when a test asks for small
// pictures the camera gives those, as few cores encode and decode all of them.
function plainDevices(pictures) {
  const media = navigator.mediaDevices;
  if (!media) return;
  const ask = media.getUserMedia.bind(media);
  const plain = { noiseSuppression: false, echoCancellation: false, autoGainControl: false };
  media.getUserMedia = ({ audio, video }) => {
    if (video && pictures) video = { width: pictures[0], height: pictures[1], frameRate: 15 };
    if (audio) audio = { ...(audio === true ? {} : audio), ...plain };
    return ask({ audio, video });
  };
}

const pages = new Map();
const logs = new Map();

function pageOf(name) {
  const page = pages.get(name);
  if (!page) throw new Error(`there is no page ${name}`);
  return page;
}

async function carryOut(command) {
  switch (command.do) {
    case "open": {
      const context = await browser.createBrowserContext();
      const page = await context.newPage();
      const log = [];
      page.on("console", (message) => log.push(`${message.type()}: ${message.text()}`));
      page.on("pageerror", (error) => log.push(`error: ${error.message}`));
      pages.set(command.page, page);
      logs.set(command.page, log);
      await page.setViewport({ width: command.width ?? 1100, height: command.height ?? 750 });
      await page.evaluateOnNewDocument(plainDevices, command.pictures ?? null);
      await page.goto(command.url, { waitUntil: "load" });
      return true;
    }
    case "eval":
      return await pageOf(command.page).evaluate(command.code);
    case "wait": {
      const handle = await pageOf(command.page).waitForFunction(command.code, { timeout: (command.seconds ?? 20) * 1000, polling: 100 });
      return await handle.jsonValue().catch(() => true);
    }
    case "click":
      await pageOf(command.page).click(command.selector);
      return true;
    case "shot": {
      const page = pageOf(command.page);
      if (command.width) await page.setViewport({ width: command.width, height: command.height });
      await page.screenshot({ path: command.file, fullPage: command.full ?? false });
      return true;
    }
    case "script":
      await pageOf(command.page).evaluate(await readFile(command.file, "utf8"));
      return true;
    case "media":
      await pageOf(command.page).emulateMediaFeatures(command.features);
      return true;
    case "press":
      for (const key of command.keys) await pageOf(command.page).keyboard.press(key);
      return true;
    case "log":
      return logs.get(command.page) ?? [];
    case "close": {
      const page = pageOf(command.page);
      pages.delete(command.page);
      await page.browserContext().close();
      return true;
    }
    default:
      throw new Error(`there is no command ${command.do}`);
  }
}

process.stdout.write('{"ok":"ready"}\n');
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = { ok: (await carryOut(JSON.parse(line))) ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close().catch(() => {});
process.exit(0);
