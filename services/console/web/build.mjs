// Bundles the meeting page into one script and one stylesheet: `node build.mjs [OUT_DIR]`.
import { build } from "esbuild";
import { copyFile, mkdir } from "node:fs/promises";

const out = process.argv[2] ?? "dist";
await mkdir(out, { recursive: true });
await build({
  entryPoints: ["src/app.ts", "src/app.css"],
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  logLevel: "warning",
});
await copyFile("src/index.html", `${out}/index.html`);
await copyFile("src/not-a-gateway.html", `${out}/not-a-gateway.html`);
await copyFile("src/icon.svg", `${out}/icon.svg`);
