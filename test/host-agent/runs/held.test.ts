import { expect, test } from "vitest";

import { holdRequests } from "../../../host-agent/runs/held.ts";

/** Requests of one key that wait until they are ended. */
function waiting(requests: ReturnType<typeof holdRequests>, keyName: string | undefined, count: number) {
  const ends: (() => void)[] = [];
  const answers = Array.from({ length: count }, () =>
    requests.hold(1, keyName, () => new Promise<void>((resolve) => ends.push(resolve))),
  );
  return { answers, endOne: () => ends.pop()!(), end: () => ends.forEach((each) => each()) };
}

test("one key cannot take all the places of waiting requests: others still get one", async () => {
  const requests = holdRequests();
  const greedy = waiting(requests, "greedy", 250);
  expect(() => requests.hold(1, "greedy", async () => 1)).toThrow("with the API key greedy (250)");
  expect(await requests.hold(0, "greedy", async () => 1), "without waiting").toBe(1);
  expect(await requests.hold(1, "modest", async () => 2)).toBe(2);

  greedy.endOne();
  await greedy.answers.at(-1);
  expect(await requests.hold(1, "greedy", async () => 3)).toBe(3);
  greedy.end();
  await Promise.all(greedy.answers);
});

test("all keys together, and edges that name no key, have a limit of waiting requests", async () => {
  const requests = holdRequests();
  const parts = [waiting(requests, "a", 200), waiting(requests, "b", 200), waiting(requests, undefined, 100)];
  expect(() => requests.hold(1, "c", async () => 1)).toThrow("Too many waiting requests (500)");
  for (const { end, answers } of parts) {
    end();
    await Promise.all(answers);
  }
  expect(await requests.hold(1, "c", async () => 1)).toBe(1);
});
