import { describe, expect, test } from "vitest";

import { createLaunchQueue, type Place } from "../../../host-agent/runs/launch-queue.ts";

const BOUNDS = { atOnce: 2, waiting: 6, waitingPerKey: 4, waitingText: 1_000 };

/** A queue whose launches take as long as the test says. */
function startQueue(bounds = BOUNDS) {
  const queue = createLaunchQueue(bounds);
  const begun: string[] = [];
  const ends = new Map<string, () => void>();
  const launch = (name: string, place: Partial<Place> = {}) =>
    queue.inTurn({ keyName: "k", text: 10, signal: undefined, ...place }, async () => {
      begun.push(name);
      await new Promise<void>((resolve) => ends.set(name, resolve));
      return name;
    });
  return { queue, begun, launch, end: (name: string) => ends.get(name)!() };
}

const turn = () => new Promise(setImmediate);

describe("the queue of launches", () => {
  test("works on a few launches at a time, and on the next when one is over, in their order", async () => {
    const { queue, begun, launch, end } = startQueue();
    const launches = ["a", "b", "c", "d"].map((name) => launch(name));
    await turn();
    expect(begun).toEqual(["a", "b"]);
    expect(queue.waiting()).toBe(2);
    end("b");
    expect(await launches[1]).toBe("b");
    await turn();
    expect(begun).toEqual(["a", "b", "c"]);
    for (const name of ["a", "c"]) end(name);
    await turn();
    end("d");
    expect(await Promise.all(launches)).toEqual(["a", "b", "c", "d"]);
    expect(queue.waiting()).toBe(0);
  });

  test("gives its place to the next launch also when one fails", async () => {
    const queue = createLaunchQueue({ ...BOUNDS, atOnce: 1 });
    const place = { keyName: "k", text: 1, signal: undefined };
    const failed = queue.inTurn(place, async () => Promise.reject(new Error("no")));
    const second = queue.inTurn(place, async () => "second");
    await expect(failed).rejects.toThrow("no");
    expect(await second).toBe("second");
  });

  test("lets keys take turns, however many launches of one key wait", async () => {
    const { begun, launch, end } = startQueue({ ...BOUNDS, atOnce: 1 });
    const launches = ["x1", "x2", "x3", "x4"].map((name) => launch(name, { keyName: "x" }));
    launches.push(launch("y1", { keyName: "y" }));
    for (const name of ["x1", "x2", "y1", "x3", "x4"]) {
      // oxlint-disable-next-line no-await-in-loop -- one turn after the other
      await turn();
      end(name);
    }
    await Promise.all(launches);
    expect(begun).toEqual(["x1", "x2", "y1", "x3", "x4"]);
  });

  test("never begins the launch of a client that disconnected while it waited, and frees its place", async () => {
    const { queue, begun, launch, end } = startQueue({ ...BOUNDS, atOnce: 1 });
    const client = new AbortController();
    const first = launch("a");
    const given = launch("b", { signal: client.signal });
    const third = launch("c");
    await turn();
    client.abort();
    await expect(given).rejects.toMatchObject({ code: "host_unavailable" });
    expect(queue.waiting()).toBe(1);
    end("a");
    await first;
    await turn();
    end("c");
    await third;
    expect(begun).toEqual(["a", "c"]);
    await expect(launch("d", { signal: client.signal })).rejects.toMatchObject({ code: "host_unavailable" });
    expect(begun).toEqual(["a", "c"]);
  });

  test("finishes a launch that has begun although its client disconnects", async () => {
    const { launch, end } = startQueue();
    const client = new AbortController();
    const begun = launch("a", { signal: client.signal });
    await turn();
    client.abort();
    end("a");
    expect(await begun).toBe("a");
  });

  test("refuses what is beyond its bounds: of one key, of all keys, and of the memory that the orders take", async () => {
    const { queue, launch } = startQueue();
    const refused = { code: "host_unavailable", extras: { retryAfterSeconds: 5 } };
    const kept = ["1", "2", "3", "4", "5", "6"].map((name) => launch(name).catch(String));
    await expect(launch("7"), "four of this key wait").rejects.toMatchObject(refused);
    kept.push(launch("8", { keyName: "l" }).catch(String), launch("9", { keyName: "m" }).catch(String));
    await expect(launch("10", { keyName: "n" }), "six wait").rejects.toMatchObject(refused);
    queue.stop();

    const other = startQueue();
    for (const name of ["1", "2"]) void other.launch(name);
    kept.push(other.launch("3", { text: 600 }).catch(String));
    await expect(other.launch("4", { text: 600 })).rejects.toMatchObject(refused);
    other.queue.stop();
    expect(await Promise.all(kept.slice(2))).toEqual(Array(7).fill(expect.stringContaining("stops")));
  });
});
