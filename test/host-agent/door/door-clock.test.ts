import { describe, expect, test } from "vitest";

import { refusal, startDoor } from "./real-door.ts";

const HOUR_MS = 3_600_000;
const OK = /^HTTP\/1.1 200 /;

describe("a clock that was ahead and is put right", () => {
  test("locks the door for the allowed skew and a second, without a restart of the agent", async () => {
    await using door = await startDoor();
    door.clock.set(HOUR_MS);
    await door.restart();
    door.clock.now += 1_000;
    expect(await door.send(await door.sign())).toMatch(OK);

    door.clock.set(-HOUR_MS);

    expect(await refusal(door, await door.sign())).toBe("before_start");
    door.clock.now += 5_000;
    expect(await refusal(door, await door.sign())).toBe("before_start");
    door.clock.now += 1_000;
    expect(await door.send(await door.sign())).toMatch(OK);
    expect(door.log.filter(({ event }) => event === "clock_set_back")).toMatchObject([
      { level: "warn", seconds: 3_600 },
    ]);
  });

  test("does not lock the door by a restart of the agent before or after it", async () => {
    for (const order of ["restart first", "clock first"]) {
      await using door = await startDoor();
      door.clock.set(HOUR_MS);
      await door.send(await door.sign());

      if (order === "clock first") door.clock.set(-HOUR_MS);
      await door.restart();
      if (order === "restart first") door.clock.set(-HOUR_MS);
      await refusal(door, await door.sign());

      door.clock.now += 6_000;
      expect([order, await door.send(await door.sign())]).toEqual([order, expect.stringMatching(OK)]);
    }
  });

  test("admits no replay of a request from before it was ahead, while it was ahead, or after", async () => {
    await using door = await startDoor();
    const before = await door.sign();
    await door.send(before);
    const early = await door.sign({ at: door.clock.now + 4_000 });
    await door.send(early);
    door.clock.set(HOUR_MS);
    const ahead = await door.sign();
    await door.send(ahead);
    door.clock.set(-HOUR_MS);

    for (const wire of [before, early]) expect(await refusal(door, wire)).toBe("before_start");
    expect(await refusal(door, ahead)).toBe("from_the_future");
    door.clock.now += 6_000;
    const after = await door.sign();
    expect(await door.send(after)).toMatch(OK);
    for (const wire of [before, early]) expect(await refusal(door, wire)).toBe("before_start");
    expect(await refusal(door, after)).toBe("replayed");
    door.clock.now += HOUR_MS - 6_000;
    expect(await refusal(door, ahead), "an hour later its time is right").toBe("replayed");
  });

  test("keeps its mark over a restart: what was admitted after it is refused", async () => {
    await using door = await startDoor();
    door.clock.set(HOUR_MS);
    await door.send(await door.sign());
    door.clock.set(-HOUR_MS);
    await refusal(door, await door.sign());
    door.clock.now += 6_000;
    const admitted = await door.sign({ at: door.clock.now + 3_000 });
    expect(await door.send(admitted)).toMatch(OK);

    await door.restart();

    expect(await refusal(door, admitted)).toBe("before_start");
  });

  test("is no event when it differs by less than the allowed skew, or when only time passes", async () => {
    await using door = await startDoor();
    door.clock.now += 1_000;
    await door.send(await door.sign());
    door.clock.set(-4_000);
    door.clock.now += 5_000;

    expect(await door.send(await door.sign())).toMatch(OK);
    door.clock.now += HOUR_MS;
    expect(await door.send(await door.sign())).toMatch(OK);
    expect(door.log.filter(({ event }) => event === "clock_set_back")).toEqual([]);
  });

  test("is noticed when it is set back in small steps", async () => {
    await using door = await startDoor();
    door.clock.set(8_000);
    await door.send(await door.sign());
    for (let step = 0; step < 2; step++) {
      door.clock.set(-4_000);
      await door.send(await door.sign());
    }
    expect(door.log.filter(({ event }) => event === "clock_set_back")).toMatchObject([{ seconds: 8 }]);
  });
});
