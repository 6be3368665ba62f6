// What thousands of live runs cost: `npm run bench` prints it, `npm run bench:live` this alone.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { type Figure, time } from "./figures.ts";
import { childrenOf, endGroup, endRun } from "./run-processes.ts";
import { cpuMs, processesOf, residentMb, startServer } from "./server.ts";

type Server = Awaited<ReturnType<typeof startServer>>;

const LIVE = Number(process.env["BENCH_LIVE"] ?? 2_000);
const FOREIGN = Number(process.env["BENCH_FOREIGN"] ?? 4_000);
const KILLS = 50;
const POLLERS = 10;
const IDLE_SECONDS = 10;
const RUNS = "/api/v1/scripts/runs";
const SETTINGS = { HUB_MAX_RUNNING: "5000", HUB_MAX_LOG_BYTES: "1000000000" };

/** The figures about live runs and about bursts of launches. */
export async function measureLiveRuns(): Promise<Figure[]> {
  await using server = await startServer(SETTINGS);
  const figures = await bursts(server);
  // After a restart, so that neither holds the memory of the bursts.
  const ready = await restartMs(server);
  const none = { ready, idle: await idleShare(server), rss: residentMb(server.pid) };
  const pids = new Set<number>();
  try {
    await time(LIVE, 16, async () => {
      const { pid } = await server.launch(join(server.dir, "sleep.sh"));
      pids.add(Number(pid));
    });
    await sleep(3_000);
    figures.push(...(await measureLive(server, none)));
    await using foreign = await foreignProcesses();
    void foreign;
    figures.push(...(await measureKills(server)));
  } finally {
    for (const pid of pids) endRun(pid);
  }
  return figures;
}

interface None {
  idle: number;
  rss: number;
  ready: number;
}

async function measureLive(server: Server, none: None): Promise<Figure[]> {
  const share = await idleShare(server);
  const ready = await restartMs(server);
  // Until the first time round of the sweep is over.
  await sleep(10_000);
  const rss = residentMb(server.pid);
  const restarted = await idleShare(server);
  const list = async (filter: string) => time(30, 1, () => ask(server, "GET", `${RUNS}?limit=50${filter}`));
  await list("");
  await list("&status=running");
  const plain = await list("");
  const filtered = await list("&status=running");
  const quiet = await gets(server, async () => sleep(2_000));
  const polled = await gets(server, async () => {
    const until = performance.now() + 4_000;
    await Promise.all(
      Array.from({ length: POLLERS }, async () => {
        while (performance.now() < until) await ask(server, "GET", `${RUNS}?limit=50&status=running`);
      }),
    );
  });
  const live = `with ${LIVE} live runs`;
  return [
    row(`idle ${live}, above none, of a core`, "%", share - none.idle, 1),
    row(`idle ${live} after a restart, above none, of a core`, "%", restarted - none.idle, 1),
    row(`resident ${live}, above none`, "MB", rss - none.rss, 10),
    against(`restart ${live}, against none`, "ms", ready, none.ready, { atMost: 1.3 }),
    against(`list ?status=running ${live}, p50, against without`, "ms", filtered.p50, plain.p50, {
      atMost: 2,
    }),
    against(`GET alone among ${live}, p99, against 20 ms`, "ms", quiet.p99, 20, null),
    against(`GET next to ${POLLERS} pollers of ?status=running, p99, against 20 ms`, "ms", polled.p99, 20, {
      atMost: 1,
    }),
    against("the event loop held meanwhile, worst, against 10 ms", "ms", polled.worst, 10, { atMost: 1 }),
  ];
}

/** The time from the order of a kill to the end of the command's process. */
async function measureKills(server: Server): Promise<Figure[]> {
  const { runs } = (await server.get(`${RUNS}?limit=${KILLS}&status=running`)) as unknown as {
    runs: { run_id: string; pid: string }[];
  };
  const signalled: number[] = [];
  const during = await gets(server, async () => {
    for (const { run_id, pid } of runs) {
      const command = childOf(Number(pid));
      const begin = performance.now();
      const answered = ask(server, "POST", `${RUNS}/${run_id}/kill`, "{}");
      while (isAlive(command)) await sleep(1);
      signalled.push(performance.now() - begin);
      await answered;
    }
  });
  const among = `among ${LIVE} live and ${FOREIGN} foreign`;
  return [
    against(`kill of one run ${among}, p99 to the signal, against 100 ms`, "ms", p99(signalled), 100, {
      atMost: 1,
    }),
    against("GET next to these kills, p99, against 20 ms", "ms", during.p99, 20, { atMost: 1 }),
    against("the event loop held meanwhile, worst, against 10 ms", "ms", during.worst, 10, { atMost: 1 }),
  ];
}

async function bursts(server: Server): Promise<Figure[]> {
  const launch = () => server.launch();
  await time(300, 16, launch);
  const figures: Figure[] = [];
  for (const count of [200, 1_000]) {
    const steady = await time(400, 16, launch);
    let refused = 0;
    const burst = await time(count, count, async () => {
      await launch().catch(() => refused++);
    });
    figures.push(
      against(`${count} launches at once, against 16`, "runs/s", burst.perSecond, steady.perSecond, {
        atLeast: 0.9,
      }),
      against(`${count} launches at once, refused`, "", refused, 1, { atMost: 0 }),
    );
  }
  return figures;
}

/** GETs of one run, one after the other, while `work` is done: their p99, and how long the event loop was held at most. */
async function gets(server: Server, work: () => Promise<void>): Promise<{ p99: number; worst: number }> {
  const { run_id } = await server.launch();
  const durations: number[] = [];
  const state = { isDone: false };
  const worst = await server.worstDelay(async () => {
    const working = work().finally(() => (state.isDone = true));
    while (!state.isDone) {
      const begin = performance.now();
      await ask(server, "GET", `${RUNS}/${run_id}`);
      durations.push(performance.now() - begin);
      await sleep(2);
    }
    await working;
  });
  return { p99: p99(durations), worst };
}

/** Of a core, in percent, of the server with its spawner. */
async function idleShare({ pid }: Server): Promise<number> {
  const used = () => processesOf(pid).reduce((sum, each) => sum + cpuMs(each), 0);
  const before = used();
  await sleep(IDLE_SECONDS * 1_000);
  return (used() - before) / IDLE_SECONDS / 10;
}

/** From the start of the process to its first answer. */
async function restartMs(server: Server): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < 3; round++) {
    let begin = 0;
    await server.restart(async () => void (begin = performance.now()));
    await server.get(`${RUNS}?limit=1`);
    times.push(performance.now() - begin);
  }
  return times.toSorted((a, b) => a - b)[1]!;
}

/** Processes that no run owns. */
async function foreignProcesses(): Promise<AsyncDisposable> {
  const text = `i=0; while [ $i -lt ${FOREIGN} ]; do sleep 600 & i=$((i+1)); done; echo; wait`;
  const shell = spawn("/bin/sh", ["-c", text], { detached: true, stdio: ["ignore", "pipe", "ignore"] });
  await once(shell.stdout, "data");
  return {
    async [Symbol.asyncDispose]() {
      endGroup(shell.pid!);
      if (shell.exitCode === null && shell.signalCode === null) await once(shell, "exit");
    },
  };
}

/** The command of a run: its wrapper's first child is the pump. */
function childOf(pid: number): number {
  return childrenOf(pid).at(-1)!;
}

function isAlive(pid: number): boolean {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return !"ZX".includes(text.charAt(text.lastIndexOf(")") + 2));
  } catch {
    return false;
  }
}

const connections = new Agent({ keepAlive: true });

async function ask({ url, headers }: Server, method: string, path: string, body?: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url + path, { method, agent: connections, headers }, (incoming) => {
      incoming.resume();
      incoming.on("end", () => {
        if (incoming.statusCode! < 300) resolve();
        else reject(new Error(`${method} ${path}: ${incoming.statusCode}`));
      });
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

function p99(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.99)]!;
}

function row(what: string, unit: string, value: number, most: number): Figure {
  return against(`${what}, against ${most} ${unit}`, unit, value, most, { atMost: 1 });
}

function against(
  what: string,
  unit: string,
  value: number,
  baseline: number,
  promise: Figure["promise"],
): Figure {
  const show = (one: number) => `${one >= 100 ? Math.round(one) : one.toFixed(2)} ${unit}`.trim();
  console.log(`measured: ${what}: ${show(value)}`);
  return { what, measured: show(value), baseline: show(baseline), ratio: value / baseline, promise };
}
