// What the drivers of all browsers share. It reads a JSON command from each line of standard input, runs
// it, and writes a JSON answer to standard output.
//   {"do":"open","page":"anna","url":"http://..."}        opens a page with fake camera and microphone
//   {"do":"script","page":"anna","file":"x.js"}           runs a script, despite the page's CSP
//   {"do":"eval","page":"anna","code":"1+1"}              answers {"ok":2}
//   {"do":"wait","page":"anna","code":"expr","seconds":20} until the expression is truthy
//   {"do":"click","page":"anna","selector":"#join-button"}
//   {"do":"log","page":"anna"}                            what the page wrote to its console
//   {"do":"close","page":"anna"}
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

// Starts a browser and finds its remote control address. Puppeteer would start it in a process group of
// its own; here it stays in this group, so that a signal to the group ends it too.
export async function start(name, program, flags, listening) {
  const process_ = spawn(program, flags, { stdio: ["ignore", "ignore", "pipe"] });
  process_.on("error", (error) => {
    console.error(`${name} cannot be started: ${error.message}`);
    process.exit(1);
  });
  const address = await new Promise((found, failed) => {
    process_.on("exit", (status) => failed(new Error(`${name} ended with status ${status}`)));
    createInterface({ input: process_.stderr }).on("line", (line) => {
      console.error(line);
      const match = line.match(listening);
      if (match) found(match[1]);
    });
  });
  return { process: process_, address };
}

// Runs commands until standard input closes. `prepare` is called with a new page and the command that
// opens it; `more` are commands of one browser, called with the page and the command.
export async function drive(browser, prepare, more) {
  const pages = new Map();
  const logs = new Map();

  const commands = {
    async open(_, command) {
      const context = await browser.createBrowserContext();
      const page = await context.newPage();
      const log = [];
      page.on("console", (message) => log.push(`${message.type()}: ${message.text()}`));
      page.on("pageerror", (error) => log.push(`error: ${error.message}`));
      pages.set(command.page, page);
      logs.set(command.page, log);
      await prepare(page, command);
      await page.goto(command.url, { waitUntil: "load" });
      return true;
    },
    script: async (page, { file }) => await page.evaluate(await readFile(file, "utf8")),
    eval: async (page, { code }) => await page.evaluate(code),
    async wait(page, { code, seconds = 20 }) {
      // Evaluated again and again from here: the page's CSP forbids eval inside the page.
      const end = Date.now() + seconds * 1000;
      for (;;) {
        // While the page reloads, the old context is gone: try again.
        const value = await page.evaluate(code).catch((error) => {
          if (/context was destroyed|Cannot find context/.test(error.message)) return false;
          throw error;
        });
        if (value) return value;
        if (Date.now() > end) throw new Error(`not true after ${seconds} s`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    },
    async click(page, { selector }) {
      await page.click(selector);
      return true;
    },
    log: async (_, command) => logs.get(command.page) ?? [],
    async close(page, command) {
      pages.delete(command.page);
      await page.browserContext().close();
      return true;
    },
    ...more,
  };

  async function run(command) {
    const known = Object.hasOwn(commands, command.do);
    if (!known) throw new Error(`there is no command ${command.do}`);
    const page = pages.get(command.page);
    if (!page && command.do !== "open") throw new Error(`there is no page ${command.page}`);
    return await commands[command.do](page, command);
  }

  process.stdout.write('{"ok":"ready"}\n');
  for await (const line of createInterface({ input: process.stdin })) {
    let answer;
    try {
      answer = { ok: (await run(JSON.parse(line))) ?? null };
    } catch (error) {
      answer = { error: String(error.message ?? error) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
}
