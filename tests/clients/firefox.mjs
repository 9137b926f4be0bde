// A real Firefox, driven line by line over WebDriver BiDi as `browser.mjs` drives Chromium: a JSON
// command comes on standard input, a JSON answer goes to standard output.
//   {"do":"open","page":"anna","url":"http://..."}        opens a page with fake camera and microphone
//   {"do":"script","page":"anna","file":"x.js"}           runs a script, whatever the page allows
//   {"do":"eval","page":"anna","code":"1+1"}              answers {"ok":2}
//   {"do":"wait","page":"anna","code":"expr","seconds":20} until the expression is truthy
//   {"do":"click","page":"anna","selector":"#join-button"}
//   {"do":"log","page":"anna"}                            what the page wrote to its console
//   {"do":"close","page":"anna"}
// It ends, with Firefox, when standard input closes.
import { spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const profile = process.argv[2];
const preferences = {
  "media.navigator.streams.fake": true,
  "media.navigator.permission.disabled": true,
  "media.peerconnection.ice.loopback": true,
  "media.autoplay.default": 0,
  "media.gmp-manager.updateEnabled": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "browser.safebrowsing.downloads.enabled": false,
};
const lines = Object.entries(preferences).map(([name, value]) => `user_pref("${name}", ${value});\n`);
await writeFile(`${profile}/user.js`, lines.join(""));
// Firefox is started here and not by puppeteer, which would give it a process group of its own:
// whoever ends this group ends Firefox too.
const firefox = spawn(
  process.env.FIREFOX ?? "/usr/bin/firefox-esr",
  ["--headless", "--no-remote", "--remote-debugging-port=0", "--profile", profile, "about:blank"],
  { stdio: ["ignore", "ignore", "pipe"] },
);
firefox.on("error", (error) => {
  console.error(`firefox cannot be started: ${error.message}`);
  process.exit(1);
});
const address = await new Promise((found, failed) => {
  firefox.on("exit", (status) => failed(new Error(`firefox ended with status ${status}`)));
  createInterface({ input: firefox.stderr }).on("line", (line) => {
    console.error(line);
    const listening = line.match(/^WebDriver BiDi listening on (ws:.*)$/);
    if (listening) found(listening[1]);
  });
});
const browser = await puppeteer.connect({
  browserWSEndpoint: `${address}/session`,
  protocol: "webDriverBiDi",
  protocolTimeout: 40_000,
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
      await page.goto(command.url, { waitUntil: "load" });
      return true;
    }
    case "script":
      return await pageOf(command.page).evaluate(await readFile(command.file, "utf8"));
    case "eval":
      return await pageOf(command.page).evaluate(command.code);
    case "wait": {
      // Whole expressions, asked again: a page of ours allows no script to build another.
      const end = Date.now() + (command.seconds ?? 20) * 1000;
      for (;;) {
        const value = await pageOf(command.page).evaluate(command.code);
        if (value) return value;
        if (Date.now() > end) throw new Error(`not so after ${command.seconds ?? 20} s`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    case "click":
      await pageOf(command.page).click(command.selector);
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
firefox.kill();
process.exit(0);
