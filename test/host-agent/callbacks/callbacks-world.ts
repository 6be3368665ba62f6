import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

import { expect, onTestFinished } from "vitest";

import { parseCallbackHost } from "../../../host-agent/callbacks/callback-rules.ts";
import type { Resolve } from "../../../host-agent/callbacks/callback-post.ts";
import { type CallbackDeps, createCallbacks } from "../../../host-agent/callbacks/callbacks.ts";
import { openRunStore, type RunStore } from "../../../host-agent/store/run-store.ts";
import { publicRun } from "../../../host-agent/runs/record.ts";
import { newRun } from "../../support/runs.ts";

/** The secret that signs the callbacks. */
export const SECRET = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
/** Key and certificate of localhost and 127.0.0.1. */
const PEM = readFileSync(new URL("../../adapters/cli/fixtures/self-signed.pem", import.meta.url), "utf8");

interface Received {
  headers: Record<string, string>;
  body: string;
  url: string;
}

type Answer = (response: ServerResponse, count: number) => void;
/** A receiver's answer with this status and these headers, and without a body. */
export const answerWith =
  (status: number, headers = {}): Answer =>
  (response) =>
    void response.writeHead(status, headers).end();

/** A receiver on loopback that keeps what it is sent. */
export async function receiver(answer: Answer = answerWith(204), { tls = false } = {}) {
  const received: Received[] = [];
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const headers = request.headers as Record<string, string>;
    received.push({ headers, body: String(await buffer(request)), url: request.url! });
    answer(response, received.length);
  };
  const listener = (request: IncomingMessage, response: ServerResponse) =>
    void serve(request, response).catch(() => response.destroy());
  const server: Server = tls ? createTlsServer({ key: PEM, cert: PEM }, listener) : createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { received, port, origin: `${tls ? "https" : "http"}://127.0.0.1:${port}` };
}

/** The callbacks over a database, with a clock, a chance and a resolver that the test has in its hands. */
export function startCallbacks(hosts: string[], options: Partial<CallbackDeps> & { path?: string } = {}) {
  const runs = openRunStore(options.path ?? ":memory:");
  const world = { time: Date.now() };
  const log: Record<string, unknown>[] = [];
  const callbacks = createCallbacks({
    store: runs.callbacks,
    hosts: hosts.map((host) => parseCallbackHost(host)!),
    secrets: [SECRET],
    record: (runId) => publicRun(runs.get(runId)!),
    log: (entry) => log.push(entry),
    now: () => world.time,
    random: () => 1,
    ca: PEM,
    ...options,
  });
  const stop = async () => {
    await callbacks.close();
    if (isOpen) runs.close();
    isOpen = false;
  };
  let isOpen = true;
  onTestFinished(stop);
  return {
    runs,
    log,
    world,
    callbacks,
    stop,
    /** Makes the attempts that are due now, and waits for them. */
    async round(): Promise<void> {
      callbacks.startDue();
      await callbacks.idle();
    },
    /** Lets the time of the next attempt come, and makes it. Returns the pause in milliseconds. */
    async next(): Promise<number> {
      const [due] = runs.callbacks.due({
        now: Number.MAX_SAFE_INTEGER,
        latest: Number.MAX_SAFE_INTEGER,
        limit: 1,
      });
      if (!due) return Infinity;
      const pause = due.next_attempt_at - world.time;
      world.time = due.next_attempt_at;
      await this.round();
      return pause;
    },
  };
}

/** A run in the database, which has ended unless told otherwise. */
export function addRun(runs: RunStore, url: string, { ended = true } = {}): string {
  const { run } = runs.insertOrFind(
    newRun({ callbackUrl: url }),
    () => true,
    () => {},
  );
  if (ended) endRun(runs, run.runId);
  return run.runId;
}

export function endRun(runs: RunStore, runId: string): void {
  const ended = { status: "completed", exitCode: 0, endedAt: Date.now() } as const;
  expect(runs.change(runs.get(runId)!, ended)).toMatchObject(ended);
}

/** A resolver to which every name is 127.0.0.1. */
export const toLoopback: Resolve = async () => [{ address: "127.0.0.1", family: 4 }];
