import { spawn as spawnChild } from "node:child_process";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

import { onTestFinished } from "vitest";

import { ALL, type Hub } from "../../support/hub.ts";

export const BIN = fileURLToPath(new URL("../../../adapters/cli/bin.js", import.meta.url));

/** For `expect.poll`: a start of the client takes a second on a busy machine. */
export const PATIENTLY = { timeout: 90_000 };

/** A separate home for the test file: it has only the hosts that its tests store. */
const HOME = mkdtempSync(join(tmpdir(), "hub-cli-"));
process.once("exit", () => rmSync(HOME, { recursive: true, force: true }));

/** The compile cache, shared by all tests as by all starts of one user. */
const CACHE = fileURLToPath(new URL("../../../node_modules/.cache", import.meta.url));

export interface CliOptions {
  env?: Record<string, string>;
  stdin?: string;
}

export interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** The environment of a client of this Hub, without the test's own variables. */
export function clientEnv(
  hub: Pick<Hub, "url"> | string,
  env: Record<string, string> = {},
): Record<string, string> {
  return {
    PATH: process.env["PATH"] ?? "/usr/bin:/bin",
    HOME,
    XDG_CACHE_HOME: CACHE,
    HUB_URL: typeof hub === "string" ? hub : hub.url,
    HUB_KEY: ALL.key,
    ...env,
  };
}

/** The client as a child process of the test, ended with it. */
export function startCli(
  hub: Pick<Hub, "url"> | string,
  args: readonly string[],
  { env, stdin }: CliOptions = {},
) {
  const child = spawnChild(process.execPath, [BIN, ...args], { env: clientEnv(hub, env) });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  const pieces: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on("data", (piece: Buffer) => pieces.push(piece));
  child.stderr.on("data", (piece: Buffer) => errors.push(piece));
  child.stdin.on("error", () => {});
  child.stdin.end(stdin ?? "");
  return {
    child,
    stdout: () => Buffer.concat(pieces).toString(),
    stderr: () => Buffer.concat(errors).toString(),
    finished: once(child, "close").then(([code]): Finished => {
      return {
        code: code as number | null,
        stdout: Buffer.concat(pieces).toString(),
        stderr: Buffer.concat(errors).toString(),
      };
    }),
  };
}

/** Runs the client to its end. */
export function cli(
  hub: Pick<Hub, "url"> | string,
  args: readonly string[],
  options?: CliOptions,
): Promise<Finished> {
  return startCli(hub, args, options).finished;
}

/** A server for the duration of the test. Returns its address. */
export async function serve(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  return listening(createServer(answer));
}

export async function listening(server: Server, scheme = "http"): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** What a faulty network does to a request: passes it, answers it, or closes the connection. */
export type Fault =
  | "pass"
  /** The request never arrives. */
  | "cut"
  /** It arrives, and half of the answer is lost. */
  | "lose"
  | { status: number; headers?: Record<string, string>; body?: string };

/** The Hub behind a network that fails as `fault` says, which gets each request and how many there were before. */
export async function faulty(
  hub: Pick<Hub, "url">,
  fault: (request: IncomingMessage, count: number) => Fault,
): Promise<string> {
  let count = 0;
  return serve((request, response) => {
    const kind = fault(request, count++);
    if (kind === "cut") request.socket.destroy();
    else if (typeof kind === "object") {
      request.resume();
      response.writeHead(kind.status, kind.headers).end(kind.body);
    } else void forward(hub.url, request, response, kind === "lose").catch(() => response.destroy());
  });
}

async function forward(
  url: string,
  request: IncomingMessage,
  response: ServerResponse,
  lose: boolean,
): Promise<void> {
  const body = await buffer(request);
  const headers = new Headers();
  for (const name of ["authorization", "content-type", "accept", "idempotency-key"]) {
    const value = request.headers[name];
    if (typeof value === "string") headers.set(name, value);
  }
  const answer = await fetch(url + request.url!, {
    method: request.method!,
    headers,
    ...(body.length > 0 && { body }),
  });
  const bytes = Buffer.from(await answer.arrayBuffer());
  response.writeHead(answer.status, {
    ...Object.fromEntries(answer.headers),
    "content-length": bytes.length,
  });
  if (!lose) response.end(bytes);
  else response.write(bytes.subarray(0, bytes.length >> 1), () => response.destroy());
}
