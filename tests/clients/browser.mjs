// A real Chromium, driven line by line: a JSON command comes on standard input, a JSON answer goes
// to standard output. The test decides what to do; this file only carries it out.
//   {"do":"open","page":"anna","url":"http://..."}       opens a page with fake camera and microphone
//   {"do":"eval","page":"anna","code":"1+1"}              answers {"ok":2}
//   {"do":"wait","page":"anna","code":"expr","seconds":20} until the expression is truthy
//   {"do":"click","page":"anna","selector":"#join-button"}
//   {"do":"shot","page":"anna","file":"/tmp/x.png","width":390,"height":844}
//   {"do":"close","page":"anna"}
import { createInterface } from "node:readline";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const profile = mkdtempSync(join(tmpdir(), "systir-chromium-"));
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  userDataDir: profile,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    // Chromium gathers no loopback candidate by itself.
    "--allow-loopback-in-peer-connection",
  ],
});
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
      await page.screenshot({ path: command.file });
      return true;
    }
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
await browser.close();
rmSync(profile, { recursive: true, force: true });
