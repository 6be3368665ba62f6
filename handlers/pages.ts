import { ApiProblem } from "../host-agent/protocol/problem.ts";
import { cached } from "./cached.ts";
import type { Reply } from "./reply.ts";

/** A built file as it is stored, perhaps compressed. */
export interface Asset {
  bytes: Uint8Array;
  encoding?: "br" | "gzip";
}

/**
 * The files of the build, by name: `console.html`, `console-4XW7QABC.js`.
 * `undefined` for a name that does not exist. `acceptEncoding` is the request's header, or "".
 */
export type Assets = (name: string, acceptEncoding: string) => Promise<Asset | undefined>;

/** What a page may do: run and load files of this origin, and send requests to it. */
const STRICT_POLICY = {
  "default-src": "'none'",
  "script-src": "'self'",
  "style-src": "'self'",
  "connect-src": "'self'",
  "img-src": "'self' data:",
  "base-uri": "'none'",
  "form-action": "'none'",
  "frame-ancestors": "'none'",
};

/** The pages for people, by path. Each has its own policy. */
const PAGES: Record<string, { file: string; policy: Record<string, string> }> = {
  "/console": { file: "console.html", policy: STRICT_POLICY },
  "/docs": { file: "docs.html", policy: STRICT_POLICY },
};

const TYPES: Record<string, string> = {
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
};
/** A fingerprinted file: its name changes with its content, so clients may keep it forever. */
const FINGERPRINTED = /^[a-z][a-z-]*-[A-Z0-9]{8}\.(js|css|svg)$/;

/** The paths of the pages and of the files that they load, in the router's notation. */
export const PAGE_PATHS = [...Object.keys(PAGES), "/assets/:name"];

/** A request for a page or one of its files. */
export interface PageRequest {
  /** One of PAGE_PATHS. */
  path: string;
  name: string | undefined;
  headers: Headers;
}

/** Serves a page or one of its files; 304 when the client's copy is current. Throws `route_not_found`. */
export async function servePage(
  { path, name, headers }: PageRequest,
  { assets, digest }: { assets?: Assets | undefined; digest(text: string): string | Promise<string> },
): Promise<Reply> {
  const page = PAGES[path];
  if (!page) return serveFile(name ?? "", headers, assets);
  const asset = await assets?.(page.file, "");
  if (!asset) {
    throw new ApiProblem("route_not_found", `${path} has not been built on this Hub. Run \`npm run build\``);
  }
  const html = new TextDecoder().decode(asset.bytes);
  const policy = Object.entries(page.policy).map((directive) => directive.join(" "));
  return cached(headers, asset.bytes, {
    etag: `"${(await digest(html)).slice(0, 32)}"`,
    "cache-control": "no-cache",
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": policy.join("; "),
  });
}

async function serveFile(name: string, headers: Headers, assets: Assets | undefined): Promise<Reply> {
  const type = TYPES[FINGERPRINTED.exec(name)?.[1] ?? ""];
  const asset = type && (await assets?.(name, headers.get("accept-encoding") ?? ""));
  if (!type || !asset) {
    throw new ApiProblem(
      "route_not_found",
      "This file does not exist. Reload the page to get the current files",
    );
  }
  const { bytes, encoding } = asset;
  return cached(headers, bytes, {
    etag: `"${name}${encoding ? `.${encoding}` : ""}"`,
    "cache-control": "public, max-age=31536000, immutable",
    "content-type": type,
    vary: "accept-encoding",
    ...(encoding && { "content-encoding": encoding }),
  });
}
