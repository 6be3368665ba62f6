import { expect, test } from "vitest";

import { hold, holdSeconds } from "../../handlers/holding.ts";

test("a wait that would meet the time limit of a common proxy ends two seconds before it", () => {
  const asked = [0, 1, 27, 28, 29, 30, 31, 45, 58, 59, 60];
  expect(asked.map(holdSeconds)).toEqual([0, 1, 27, 28, 28, 28, 31, 45, 58, 58, 58]);
});

test("what is read waits for the shortened time, with the server stopping or not", async () => {
  const { signal } = new AbortController();
  for (const stopping of [undefined, new AbortController().signal]) {
    const waited = await hold(60, { signal, stopping }, async ({ waitSeconds }) => waitSeconds);
    expect(waited).toBe(58);
  }
});
