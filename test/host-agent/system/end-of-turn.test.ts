import { describe, expect, test } from "vitest";

import { atEndOfTurn } from "../../../host-agent/system/end-of-turn.ts";

describe("work at the end of a turn", () => {
  test("gets all items of that turn, in order, and each call gets its own result", async () => {
    const turns: number[][] = [];
    const double = atEndOfTurn<number, number>((numbers) => {
      turns.push([...numbers]);
      return numbers.map((n) => n * 2);
    });

    expect(await Promise.all([double(1), double(2), double(3)])).toEqual([2, 4, 6]);
    expect(await double(4)).toBe(8);
    expect(turns).toEqual([[1, 2, 3], [4]]);
  });

  test("fails for each call of the turn and for no later one", async () => {
    const half = atEndOfTurn<number, number>((numbers) => {
      if (numbers.includes(3)) throw new Error("3 is odd");
      return numbers.map((n) => n / 2);
    });

    const failed = await Promise.allSettled([half(2), half(3)]);
    expect(failed.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(await half(4)).toBe(2);
  });

  test("leaves an item that arrives while a turn is worked off to the next turn", async () => {
    const later: Promise<number>[] = [];
    const same = atEndOfTurn<number, number>((numbers) => {
      if (numbers[0] === 1) later.push(same(2));
      return numbers;
    });

    expect(await same(1)).toBe(1);
    expect(await later[0]).toBe(2);
  });
});
