// Builds ../built, or the folder that is named, from src: a script, a style sheet and a page for the grid (app) and for runs
// and models (work); and the hash of the sources that they are made of.
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const out = process.argv[2] ?? "../built";
await build({
  entryPoints: ["src/app.tsx", "src/work.tsx"], bundle: true, minify: true, format: "esm", target: "es2022", outdir: out,
  jsx: "automatic", jsxImportSource: "preact", legalComments: "none", charset: "utf8",
});
for (const name of ["index.html", "work.html", "icon.svg"]) copyFileSync(`src/${name}`, `${out}/${name}`);

const hash = createHash("sha256");
for (const name of readdirSync("src").sort()) hash.update(name).update("\0").update(readFileSync(`src/${name}`));
for (const name of ["package-lock.json", "../../browse/report/palette.css", "../../browse/report/style.css"]) hash.update(readFileSync(name));
writeFileSync(`${out}/sources.sha256`, hash.digest("hex") + "\n");
