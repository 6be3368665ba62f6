// oxlint-disable vitest/no-standalone-expect -- the commands are the body of the test
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import * as fc from "fast-check";
import { expect } from "vitest";

import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { until } from "../../support/hub.ts";
import type { Model, ModelRun } from "./model.ts";
import { RUNS, type World } from "./world.ts";

const KEYS = ["a", "b", "c"];
const INTERRUPTED = /^Launch interrupted: /;
const KEY_LIFE_MS = 3_600_000;

/** What waits must not end by itself while the test goes on: longer than the test may take. */
const WAIT = "sleep 3600";

const TEXT = {
  ends: (code: number) => `echo started; exit ${code}`,
  waits: (code: number) => `echo started; ${WAIT}; exit ${code}`,
  "ignores TERM": (code: number) => `trap '' TERM INT; echo started; ${WAIT}; exit ${code}`,
};

type Command = fc.AsyncCommand<Model, World>;

function script(world: World, kind: ModelRun["kind"], code: number): string {
  const path = join(world.dir, `${kind.replace(" ", "_")}-${code}.sh`);
  writeFileSync(path, `#!/bin/sh\necho "$HUB_RUN_ID" >>${world.dir}/ledger\n${TEXT[kind](code)}\n`, {
    mode: 0o755,
  });
  return path;
}

function newRun(id: string, kind: ModelRun["kind"], code: number): ModelRun {
  return { id, kind, code, fate: "its own", isKilledForGood: false };
}

/** Resolves when what a signal meets is the same each time. */
async function started(run: ModelRun, world: World): Promise<void> {
  await until(() => (world.ran().includes(run.id) ? true : undefined));
  await until(async () => {
    const { json } = await world.ask("GET", `${RUNS}/${run.id}/logs`);
    return json.chunk === "started\n" ? true : undefined;
  });
}

class Launch implements Command {
  readonly kind: ModelRun["kind"];
  readonly code: number;
  readonly key: string | undefined;
  constructor(kind: ModelRun["kind"], code: number, key: string | undefined) {
    this.kind = kind;
    this.code = code;
    this.key = key;
  }
  check = () => true;
  async run(model: Model, world: World): Promise<void> {
    const headers: Record<string, string> = this.key === undefined ? {} : { "idempotency-key": this.key };
    const answer = await world.ask("POST", RUNS, { path: script(world, this.kind, this.code) }, headers);
    const held = this.key === undefined ? undefined : model.keys.get(this.key);
    if (held && model.now - held.at < KEY_LIFE_MS) {
      const isSame = held.run.kind === this.kind && held.run.code === this.code;
      expect(answer.status).toBe(isSame ? 201 : 422);
      if (!isSame) return expect(answer.json.code).toBe("idempotency_key_reused");
      expect(answer.headers.get("idempotent-replayed")).toBe("true");
      return expect(world.see(answer.json).run_id).toBe(held.run.id);
    }
    expect(answer.status).toBe(201);
    expect(answer.headers.get("idempotent-replayed")).toBe(null);
    expect(model.runs.map(({ id }) => id)).not.toContain(answer.json.run_id);
    world.see(answer.json);
    const run = newRun(answer.json.run_id, this.kind, this.code);
    model.runs.push(run);
    if (this.key !== undefined) model.keys.set(this.key, { run, at: model.now });
    await started(run, world);
  }
  toString = () => `launch(${this.kind}, ${this.code}, ${this.key})`;
}

/** The same launch again, with the same key: a replay within the hour, a new run after it. */
class Relaunch implements Command {
  readonly index: number;
  constructor(index: number) {
    this.index = index;
  }
  check = (model: Readonly<Model>) => model.keys.size > 0;
  run(model: Model, world: World): Promise<void> {
    const [key, { run }] = [...model.keys][this.index % model.keys.size]!;
    return new Launch(run.kind, run.code, key).run(model, world);
  }
  toString = () => `relaunch(${this.index})`;
}

abstract class OfRun implements Command {
  readonly index: number;
  constructor(index: number) {
    this.index = index;
  }
  check = (model: Readonly<Model>) => model.runs.length > 0;
  async run(model: Model, world: World): Promise<void> {
    const run = model.runs[this.index % model.runs.length]!;
    if (run.fate !== "interrupted") await this.act(run, world);
  }
  abstract act(run: ModelRun, world: World): Promise<void>;
}

/** True of a record at any time. */
function expectTrue(run: ModelRun, record: RunRecord): void {
  if (run.fate === "killed") return expect(record.status).toBe("killed");
  if (run.fate === "interrupted") {
    expect(record.status_reason).toMatch(INTERRUPTED);
    return expect(record).toMatchObject({ status: "failed", exit_code: null, signal: null });
  }
  const own = run.code === 0 ? "completed" : "failed";
  if (run.kind !== "ends") return expect(record).toMatchObject({ status: "running", ended_at: null });
  expect(["running", own]).toContain(record.status);
  if (record.status === own) expect(record).toMatchObject({ exit_code: run.code, signal: null });
}

class Get extends OfRun {
  async act(run: ModelRun, world: World): Promise<void> {
    const { status, json } = await world.ask("GET", `${RUNS}/${run.id}`);
    expect(status).toBe(200);
    expectTrue(run, world.see(json));
  }
  override toString = () => `get(${this.index})`;
}

class WaitForEnd extends OfRun {
  async act(run: ModelRun, world: World): Promise<void> {
    if (run.kind !== "ends" && !run.isKilledForGood) return;
    const record = await world.ended(run);
    expectTrue(run, record);
    expect(record.status).not.toBe("running");
    expect(processesOf(run.id)).toEqual([]);
  }
  override toString = () => `waitForEnd(${this.index})`;
}

class ReadLog extends OfRun {
  readonly pageBytes: number;
  constructor(index: number, pageBytes: number) {
    super(index);
    this.pageBytes = pageBytes;
  }
  async act(run: ModelRun, world: World): Promise<void> {
    let text = "";
    for (let more = true; more;) {
      const after = text.length;
      const { json } = await world.ask(
        "GET",
        `${RUNS}/${run.id}/logs?after=${after}&max_bytes=${this.pageBytes}`,
      );
      expect(json.offset).toBe(after + json.chunk.length);
      text += json.chunk;
      more = json.more;
    }
    expect(text.startsWith("started\n")).toBe(true);
    const beyond = await world.ask("GET", `${RUNS}/${run.id}/logs?after=9999`);
    expect(beyond).toMatchObject({ status: 416, json: { code: "offset_beyond_end" } });
  }
  override toString = () => `readLog(${this.index}, ${this.pageBytes})`;
}

interface KillOrder {
  signal?: string;
  grace_seconds?: number;
}

function noteKill(run: ModelRun, { signal, grace_seconds }: KillOrder): void {
  run.fate = "killed";
  run.isKilledForGood ||= run.kind === "waits" || signal === "SIGKILL" || grace_seconds === 0;
}

class Kill extends OfRun {
  readonly order: KillOrder;
  constructor(index: number, order: KillOrder) {
    super(index);
    this.order = order;
  }
  async act(run: ModelRun, world: World): Promise<void> {
    // Whether a kill is in time for a run that ends by itself is for the race tests.
    if (run.kind === "ends") await world.ended(run);
    const { status, json } = await world.ask("POST", `${RUNS}/${run.id}/kill`, this.order);
    if (run.kind === "ends") return expect([status, json.code]).toEqual([409, "run_ended"]);
    expect(status).toBe(200);
    expect(world.see(json).status).toBe("killed");
    noteKill(run, this.order);
  }
  override toString = () => `kill(${this.index}, ${JSON.stringify(this.order)})`;
}

class List implements Command {
  readonly limit: number;
  constructor(limit: number) {
    this.limit = limit;
  }
  check = () => true;
  async run(model: Model, world: World): Promise<void> {
    const listed: string[] = [];
    for (let cursor = ""; ;) {
      const { json } = await world.ask("GET", `${RUNS}?limit=${this.limit}${cursor}`);
      for (const record of json.runs as RunRecord[]) {
        listed.push(world.see(record).run_id);
        expectTrue(
          model.runs.find(({ id }) => id === record.run_id)!,
          record,
        );
      }
      if (json.next_cursor === null) break;
      cursor = `&cursor=${json.next_cursor}`;
    }
    expect(listed).toEqual(model.runs.map(({ id }) => id).toReversed());
    const killed = (await world.ask("GET", `${RUNS}?status=killed&limit=500`)).json.runs as RunRecord[];
    const fated = model.runs.filter(({ fate }) => fate === "killed").map(({ id }) => id);
    expect(killed.map(({ run_id }) => run_id)).toEqual(fated.toReversed());
  }
  toString = () => `list(${this.limit})`;
}

class Restart implements Command {
  check = () => true;
  async run(_model: Model, world: World): Promise<void> {
    await world.end("SIGTERM");
    await world.start();
  }
  toString = () => "restart";
}

/** What was asked for when the server died, and what was answered before. */
interface Pending {
  kind: ModelRun["kind"];
  key: string | undefined;
  body: { path: string; args: string };
  answer: Awaited<ReturnType<World["ask"]>> | undefined;
}

let tags = 0;

/** Launches and kills are under way when the server is killed, at any of their steps; another one takes over. */
class Crash implements Command {
  readonly launches: [kind: ModelRun["kind"], hasKey: boolean][];
  readonly kills: [index: number, order: KillOrder][];
  readonly afterMs: number;
  constructor(launches: Crash["launches"], kills: Crash["kills"], afterMs: number) {
    this.launches = launches;
    this.kills = kills;
    this.afterMs = afterMs;
  }
  check = () => true;
  async run(model: Model, world: World): Promise<void> {
    const alive = model.runs.filter((run) => run.fate === "its own" && run.kind !== "ends");
    const killed = this.kills
      .slice(0, alive.length)
      .map(([i, order]) => ({ run: alive[i % alive.length]!, order }));
    const launching = this.launches.map(async ([kind, hasKey]): Promise<Pending> => {
      const tag = `crash-${tags++}`;
      const key = hasKey ? tag : undefined;
      const body = { path: script(world, kind, 9), args: tag };
      return { kind, key, body, answer: await launch(world, body, key).catch(() => undefined) };
    });
    const killing = killed.map(async ({ run, order }) => kill(world, run, order).catch(() => undefined));
    await sleep(this.afterMs);
    await world.end("SIGKILL");
    const pending = await Promise.all(launching);
    const answers = await Promise.all(killing);
    await world.start();

    for (const [i, { run, order }] of killed.entries()) {
      if (answers[i]) expect(answers[i].status).toBe(200);
      const { json } = await world.ask("GET", `${RUNS}/${run.id}`);
      expect(answers[i] ? ["killed"] : ["running", "killed"]).toContain(world.see(json).status);
      // A client without an answer asks again.
      const again = await kill(world, run, order);
      expect([again.status, world.see(again.json).status]).toEqual([200, "killed"]);
      noteKill(run, order);
    }
    const known = new Set(model.runs.map(({ id }) => id));
    const found = (await world.list()).toReversed().filter(({ run_id }) => !known.has(run_id));
    for (const record of found) {
      const of = pending.find(({ body }) => body.args === (record.spec as { args?: string }).args);
      const run = newRun(record.run_id, of!.kind, 9);
      if (INTERRUPTED.test(record.status_reason)) run.fate = "interrupted";
      else await started(run, world);
      expectTrue(run, record);
      model.runs.push(run);
    }
    for (const { kind, key, body, answer } of pending) {
      const runs = found.filter((record) => (record.spec as { args?: string }).args === body.args);
      const ran = model.runs.filter(
        ({ id, fate }) => fate !== "interrupted" && runs.some(({ run_id }) => run_id === id),
      );
      expect(runs.length).toBeLessThanOrEqual(1);
      if (answer) expect([answer.status, answer.json.run_id]).toEqual([201, ran[0]?.id]);
      if (key === undefined) continue;
      // Its client asks again, and gets the run that there is, or the first that starts.
      const again = await launch(world, body, key);
      expect([again.status, again.headers.get("idempotent-replayed")]).toEqual([
        201,
        ran.length > 0 ? "true" : null,
      ]);
      if (ran[0]) {
        expect(world.see(again.json).run_id).toBe(ran[0].id);
        continue;
      }
      const run = newRun(world.see(again.json).run_id, kind, 9);
      model.runs.push(run);
      await started(run, world);
    }
  }
  toString = () => `crash(${JSON.stringify([this.launches, this.kills, this.afterMs])})`;
}

function launch(world: World, body: object, key: string | undefined) {
  return world.ask("POST", RUNS, body, key === undefined ? {} : { "idempotency-key": key });
}

function kill(world: World, { id }: ModelRun, order: KillOrder) {
  return world.ask("POST", `${RUNS}/${id}/kill`, order);
}

class PassTime implements Command {
  readonly ms: number;
  constructor(ms: number) {
    this.ms = ms;
  }
  check = () => true;
  async run(model: Model, world: World): Promise<void> {
    model.now += this.ms;
    world.moveClock(this.ms);
  }
  toString = () => `passTime(${this.ms})`;
}

const index = fc.nat(7);
const killOrder = fc.constantFrom<KillOrder>(
  {},
  { signal: "SIGINT" },
  { signal: "SIGKILL" },
  { grace_seconds: 0 },
  { grace_seconds: 600 },
);
const crash = fc
  .tuple(
    fc.array(fc.tuple(fc.constantFrom<ModelRun["kind"]>("ends", "waits"), fc.boolean()), {
      minLength: 1,
      maxLength: 3,
    }),
    fc.array(fc.tuple(index, killOrder), { maxLength: 2 }),
    fc.integer({ min: 0, max: 40 }),
  )
  .map((parts) => new Crash(...parts));

/** Up to 25 commands in any order. */
export const commands = fc.commands(
  [
    fc
      .tuple(
        fc.constantFrom<ModelRun["kind"]>("ends", "waits", "ignores TERM"),
        fc.constantFrom(0, 9),
        fc.option(fc.constantFrom(...KEYS), { nil: undefined, freq: 4 }),
      )
      .map((parts) => new Launch(...parts)),
    index.map((i) => new Relaunch(i)),
    index.map((i) => new Relaunch(i)),
    index.map((i) => new Get(i)),
    index.map((i) => new WaitForEnd(i)),
    fc.tuple(index, fc.integer({ min: 1, max: 9 })).map((parts) => new ReadLog(...parts)),
    fc.tuple(index, killOrder).map((parts) => new Kill(...parts)),
    fc.integer({ min: 1, max: 5 }).map((limit) => new List(limit)),
    fc.constant(new Restart()),
    crash,
    crash,
    fc.constantFrom(60_000, KEY_LIFE_MS + 1_000).map((ms) => new PassTime(ms)),
  ],
  // As many, where the default is a few nearly always.
  { maxCommands: 25, size: "max" },
);
