// npm run build: bundles the pages of adapters/console/ and adapters/api-docs/ into adapters/dist/.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants } from "node:zlib";

import { build, type BuildOptions } from "esbuild";

import { PAGES_FOLDER } from "./node/assets-folder.ts";

/** The sources of a page: a template that names its script and style, and these two. */
interface Page {
  name: "console" | "docs";
  folder: string;
  script: string;
  style: string;
  options: BuildOptions;
}

/** A page as it is written to the folder. */
interface BuiltPage {
  name: Page["name"];
  html: Buffer;
  files: ReadonlyMap<string, Uint8Array>;
}

/** The suffix of a file that is being written. */
const DRAFT = ".tmp";
const EX_CANTCREAT = 73; // sysexits(3)

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
      // Swagger UI has short names already. Its licences must stay with it.
      minifyWhitespace: true,
      footer: {
        js: await readFile(join(swaggerFolder, "swagger-ui-es-bundle.js.LICENSE.txt"), "utf8"),
      },
    },
  },
];

/** Builds the console and the API reference into adapters/dist, under fingerprinted names. Writes only the files that do not exist. */
const built = await Promise.all(PAGES.map(buildPage));
try {
  await mkdir(PAGES_FOLDER, { recursive: true });
  const kept = new Set<string>();
  for (const page of built) for (const name of await writePage(page)) kept.add(name);
  for (const name of await readdir(PAGES_FOLDER)) {
    // A draft belongs to another build, which is about to rename it.
    if (!kept.has(name) && !name.endsWith(DRAFT)) await rm(join(PAGES_FOLDER, name), { force: true });
  }
} catch (error) {
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) throw error;
  const hasFormer = PAGES.every(({ name }) => existsSync(join(PAGES_FOLDER, `${name}.html`)));
  const rest = hasFormer ? "The pages of the last build are served" : "No earlier build exists";
  console.error(
    `The console and the reference cannot be written to ${PAGES_FOLDER}: ${code}. ${rest}. ` +
      "Run `npm run build` as the owner of that folder",
  );
  if (!hasFormer) process.exitCode = EX_CANTCREAT;
}

/** The page's HTML, and its files under names that are made of their content. All addresses are relative: a proxy may serve them under a path. */
async function buildPage({ name, folder, script, style, options }: Page): Promise<BuiltPage> {
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
    html = html.replace(`{{${extension}}}`, `assets/${names.find((file) => file.endsWith(extension))}`);
  }
  return { name, html: Buffer.from(html), files };
}

/** Writes a page. Returns the names of its files. */
async function writePage({ name, html, files }: BuiltPage): Promise<string[]> {
  const written = await Promise.all([...files].map(([file, bytes]) => writeWithBrotli(file, bytes)));
  const path = join(PAGES_FOLDER, `${name}.html`);
  const old = await readFile(path).catch(() => undefined);
  if (!old?.equals(html)) await replaceFile(path, html);
  return [...written.flat(), `${name}.html`];
}

async function writeWithBrotli(name: string, bytes: Uint8Array): Promise<string[]> {
  const path = join(PAGES_FOLDER, name);
  // The name is made of the content: a file that exists is the same.
  if (!existsSync(path)) await replaceFile(path, bytes);
  if (!existsSync(`${path}.br`)) {
    const params = { [constants.BROTLI_PARAM_QUALITY]: bytes.length > 500_000 ? 8 : 11 };
    await replaceFile(`${path}.br`, await promisify(brotliCompress)(bytes, { params }));
  }
  return [name, `${name}.br`];
}

/** A server that reads the file at the same time gets the old one or the new one, never a part. */
async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}${DRAFT}`;
  await writeFile(temporary, bytes);
  await rename(temporary, path);
}

function fingerprint(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, 8).toUpperCase();
}
