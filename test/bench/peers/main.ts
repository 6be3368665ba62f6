// npm run bench:peers: other services that start commands over HTTP, next to this one, in the same run. A peer that is
// not installed is left out (Debian: apt-get install webhook supervisor).
import { median, time } from "../figures.ts";
import { hub } from "./hub.ts";
import { isInstalled, type Peer } from "./peer.ts";
import { supervisord } from "./supervisord.ts";
import { webhook } from "./webhook.ts";

const ROUNDS = 3;
const PEERS: [string, () => Promise<Peer>][] = [
  ["webhook", webhook],
  ["supervisord", supervisord],
];
const BEYOND = `
What a launch of this product does in addition: the run is recorded and on the disk before the answer, it outlives the
service, its exit code and its whole log are kept, and a retry with the same Idempotency-Key does not start it again.
webhook answers after the command has ended and keeps nothing of it. supervisord keeps the last exit code of a program
in memory, runs a program once at a time, and ends its commands when it ends.`;

interface Measure {
  what: string;
  unit: string;
  of(peer: Peer): (() => Promise<number>) | undefined;
}

const perSecond = async (count: number, concurrency: number, work: () => Promise<void>) =>
  (await time(count, concurrency, work)).perSecond;

const MEASURES: Measure[] = [
  {
    what: "launch /bin/true, 1 at a time",
    unit: "/s",
    of: (peer) => () => perSecond(200, 1, () => peer.launch(0)),
  },
  { what: "launch /bin/true, 16 at a time", unit: "/s", of: (peer) => () => launches(peer) },
  {
    what: "status of one, 16 at a time",
    unit: "/s",
    of: ({ status }) => status && (() => perSecond(2_000, 16, status)),
  },
  {
    what: "64 KiB in the middle of a 20 MB log, 4 at a time",
    unit: "/s",
    of: ({ logPage }) => logPage && (() => perSecond(1_000, 4, logPage)),
  },
];

await using opened = new AsyncDisposableStack();
const peers = [opened.use(await hub())];
for (const [program, start] of PEERS) {
  if (isInstalled(program)) peers.push(opened.use(await start()));
  else console.log(`left out: ${program} is not installed`);
}
const rows = [["what", ...peers.map(({ name }) => name)]];
for (const measure of MEASURES) rows.push([measure.what, ...(await measured(measure))]);
const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
for (const row of rows)
  console.log(
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd(),
  );
console.log(BEYOND);

/** In turn, so that a busy moment of the machine is not one peer's alone. The first round warms up. */
async function measured({ of, unit }: Measure): Promise<string[]> {
  const rates = peers.map((): number[] => []);
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [at, peer] of peers.entries()) {
      const rate = await of(peer)?.();
      if (rate !== undefined && round > 0) rates[at]!.push(rate);
    }
  }
  return rates.map((each) => (each.length === 0 ? "has none" : `${Math.round(median(each))} ${unit}`));
}

async function launches(peer: Peer): Promise<number> {
  const free = Array.from({ length: 16 }, (_, slot) => slot);
  return perSecond(400, 16, async () => {
    const slot = free.pop()!;
    await peer.launch(slot);
    free.push(slot);
  });
}
