// Builds ../built, or the folder that is named, from src: one script, one style sheet, one page; and the hash of the sources that they are made of.
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const out = process.argv[2] ?? "../built";
await build({
  entryPoints: ["src/app.tsx"], bundle: true, minify: true, format: "esm", target: "es2022", outfile: `${out}/app.js`,
  jsx: "automatic", jsxImportSource: "preact", legalComments: "none", charset: "utf8",
});
for (const name of ["index.html", "icon.svg"]) copyFileSync(`src/${name}`, `${out}/${name}`);

const hash = createHash("sha256");
for (const name of readdirSync("src").sort()) hash.update(name).update("\0").update(readFileSync(`src/${name}`));
hash.update(readFileSync("package-lock.json"));
writeFileSync(`${out}/sources.sha256`, hash.digest("hex") + "\n");
