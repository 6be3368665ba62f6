import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { refusal, START_MS, startDoor } from "./real-door.ts";

describe("the door after a restart of the agent", () => {
  test("refuses a request that was admitted before, within the same second and with the signer's clock ahead", async () => {
    await using door = await startDoor();
    const before = await door.sign({ at: START_MS + 900 });
    const ahead = await door.sign({ at: START_MS + 4_000 });
    await door.send(before);
    await door.send(ahead);

    await door.restart(() => (door.clock.now = START_MS + 950));

    expect(await refusal(door, before)).toBe("before_start");
    expect(await refusal(door, ahead)).toBe("before_start");
    expect(door.served).toHaveLength(2);
  });

  test("refuses a request that was signed before the start, though no agent has seen it", async () => {
    await using door = await startDoor();
    const early = await door.sign({ at: START_MS });

    await door.restart(() => (door.clock.now = START_MS + 2_000));

    expect(await refusal(door, early)).toBe("before_start");
    expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);
  });

  test("admits requests of the second after the last admitted one", async () => {
    await using door = await startDoor();
    await door.send(await door.sign());

    await door.restart();

    expect(await refusal(door, await door.sign())).toBe("before_start");
    door.clock.now += 1_000;
    expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);
  });

  test("is not locked for longer than the skew by a damaged mark, or by one from a wrong clock", async () => {
    for (const text of ["", "garbage", "999999999999999\n"]) {
      await using door = await startDoor();
      await door.restart(() => writeFileSync(join(door.dir, "door.mark"), text));

      expect([text, await refusal(door, await door.sign())]).toEqual([text, "before_start"]);
      door.clock.now += 6_000;
      expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);
    }
  });
});
