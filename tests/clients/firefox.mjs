// A real Firefox, controlled over WebDriver BiDi with the commands of `driven.mjs`. It ends, with Firefox,
// when standard input closes.
import { writeFile } from "node:fs/promises";
import puppeteer from "puppeteer-core";
import { drive, start } from "./driven.mjs";

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
const firefox = await start(
  "firefox",
  process.env.FIREFOX ?? "/usr/bin/firefox-esr",
  ["--headless", "--no-remote", "--remote-debugging-port=0", "--profile", profile, "about:blank"],
  /^WebDriver BiDi listening on (ws:.*)$/,
);
const browser = await puppeteer.connect({
  browserWSEndpoint: `${firefox.address}/session`,
  protocol: "webDriverBiDi",
  protocolTimeout: 120_000,
});
await drive(browser, async () => {}, {});
firefox.process.kill();
process.exit(0);
