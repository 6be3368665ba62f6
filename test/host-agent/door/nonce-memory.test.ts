import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { openNonceMemory } from "../../../host-agent/door/nonce-memory.ts";
import { tempDir } from "../../support/temp-dir.ts";

/** Epoch seconds. */
const START = 1_800_000_000;

/** A memory whose clock the test moves, in a folder that is empty or has this mark. */
function memoryWith(mark?: string) {
  const path = join(tempDir(), "door.mark");
  if (mark !== undefined) writeFileSync(path, mark);
  const clock = { seconds: START };
  function open() {
    const memory = openNonceMemory(path, () => ({
      at: clock.seconds * 1_000 + 999,
      uptime: clock.seconds * 1_000,
    }));
    let isOpen = true;
    const close = () => {
      if (isOpen) memory.close();
      isOpen = false;
    };
    onTestFinished(close);
    return { ...memory, close };
  }
  return { path, clock, open, mark: () => readFileSync(path, "utf8") };
}

test("a nonce is new once for its second, and others of that second and of others are new too", () => {
  const { take, count } = memoryWith().open();
  expect(take("a", START)).toBe("new");
  expect(take("b", START)).toBe("new");
  expect(take("a", START + 1)).toBe("new");
  expect([take("a", START), take("b", START), take("a", START + 1)]).toEqual(["seen", "seen", "seen"]);
  expect(count()).toBe(3);
});

test("a nonce is remembered for a minute, after which its signature is refused and takes no memory", () => {
  const { open, clock } = memoryWith();
  const { take, count } = open();
  take("a", START);
  clock.seconds += 60;
  expect(take("a", START)).toBe("seen");
  clock.seconds += 1;
  expect(take("a", START)).toBe("before");
  expect(count()).toBe(0);
  clock.seconds -= 61;
  expect(take("a", START), "a clock that was set back").toBe("before");
});

test("the mark is the highest creation time, always in a file of the same length that only its owner may read", () => {
  const { open, path, mark } = memoryWith();
  const { take } = open();
  expect(mark()).toBe("              0\n");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  take("a", START + 3);
  expect(mark()).toBe("     1800000003\n");
  take("b", START + 1);
  expect(mark(), "never lower").toBe("     1800000003\n");
});

test.for<[string, string | undefined, number]>([
  ["missing begins with its start", undefined, START],
  ["from before its start begins with its start", "     1700000000\n", START],
  ["within the skew begins after the mark", `     ${START + 3}\n`, START + 4],
  ["further ahead than the skew begins after the skew", "999999999999999\n", START + 6],
  ["damaged begins after the skew", "garbage\n", START + 6],
  ["without a newline, and so cut off, begins after the skew", "180000000", START + 6],
  ["empty begins after the skew", "", START + 6],
])("a memory whose mark is %s", ([, mark, begin]) => {
  const { take } = memoryWith(mark).open();
  expect([take("a", begin - 1), take("a", begin)]).toEqual(["before", "new"]);
});

test("the next memory begins after the last nonce of this one", () => {
  const { open } = memoryWith();
  const first = open();
  first.take("a", START + 2);
  first.close();
  const { take } = open();
  expect([take("a", START + 2), take("b", START + 2), take("a", START + 3)]).toEqual([
    "before",
    "before",
    "new",
  ]);
});

test("a nonce whose mark cannot be written is not taken, and the error is thrown", () => {
  const memory = memoryWith().open();
  memory.take("a", START);
  memory.close();
  expect(() => memory.take("b", START + 1)).toThrow("EBADF");
  expect(memory.count()).toBe(1);
  expect(memory.take("b", START), "needs no higher mark").toBe("new");
});

test("a mark that cannot be read for another reason than that it is missing stops the start", () => {
  const path = join(tempDir(), "door.mark");
  mkdirSync(path);
  expect(() => openNonceMemory(path)).toThrow("EISDIR");
});
