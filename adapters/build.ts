import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants } from "node:zlib";

import { build, type BuildOptions } from "esbuild";

import { PAGES_FOLDER } from "./assets-folder.ts";

/** What a page is made of: a template that names its script and style, and their sources. */
interface Page {
  name: "console" | "docs";
  folder: string;
  script: string;
  style: string;
  options: BuildOptions;
}

const here = import.meta.dirname;
const swaggerFolder = dirname(createRequire(import.meta.url).resolve("swagger-ui-dist/package.json"));

const PAGES: Page[] = [
  {
    name: "console",
    folder: join(here, "console"),
    script: "main.tsx",
    style: "style.css",
    options: { minify: true },
  },
  {
    name: "docs",
    folder: join(here, "api-docs"),
    script: "main.ts",
    style: "style.css",
    options: {
      // Swagger UI comes with short names; its licences travel with it.
      minifyWhitespace: true,
      footer: {
        js: await readFile(join(swaggerFolder, "swagger-ui-es-bundle.js.LICENSE.txt"), "utf8"),
      },
    },
  },
];

/** Builds the console and the API reference into adapters/dist, under fingerprinted names. */
const kept = new Set<string>();
for (const page of PAGES) for (const name of await buildPage(page)) kept.add(name);
for (const name of await readdir(PAGES_FOLDER)) {
  if (!kept.has(name)) await rm(join(PAGES_FOLDER, name), { force: true });
}

/** Returns the names of the files that the page consists of. */
async function buildPage({ name, folder, script, style, options }: Page): Promise<string[]> {
  const { outputFiles = [] } = await build({
    entryPoints: { [name]: join(folder, script), [`${name}-style`]: join(folder, style) },
    outdir: PAGES_FOLDER,
    entryNames: "[name]-[hash]",
    bundle: true,
    write: false,
    format: "esm",
    target: "es2023",
    jsx: "automatic",
    jsxImportSource: "preact",
    loader: { ".svg": "dataurl", ".png": "dataurl" },
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "warning",
    ...options,
  });
  const icon = await readFile(join(here, "console", "icon.svg"));
  const files = new Map<string, Uint8Array>(
    outputFiles.map(({ path, contents }) => [basename(path), contents]),
  );
  files.set(`icon-${fingerprint(icon)}.svg`, icon);

  const names = [...files.keys()];
  let html = await readFile(join(folder, "index.html"), "utf8");
  for (const extension of ["js", "css", "svg"]) {
    html = html.replace(`{{${extension}}}`, `/assets/${names.find((file) => file.endsWith(extension))}`);
  }
  await mkdir(PAGES_FOLDER, { recursive: true });
  const written = await Promise.all([...files].map(([file, bytes]) => writeWithBrotli(file, bytes)));
  await replaceFile(join(PAGES_FOLDER, `${name}.html`), Buffer.from(html));
  return [...written.flat(), `${name}.html`];
}

async function writeWithBrotli(name: string, bytes: Uint8Array): Promise<string[]> {
  const path = join(PAGES_FOLDER, name);
  // The name is made of the content: what is there is the same.
  if (!existsSync(path)) await replaceFile(path, bytes);
  if (!existsSync(`${path}.br`)) {
    const params = { [constants.BROTLI_PARAM_QUALITY]: bytes.length > 500_000 ? 8 : 11 };
    await replaceFile(`${path}.br`, await promisify(brotliCompress)(bytes, { params }));
  }
  return [name, `${name}.br`];
}

/** A server that reads the file meanwhile gets the old one or the new one, never a half. */
async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, bytes);
  await rename(temporary, path);
}

function fingerprint(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, 8).toUpperCase();
}
