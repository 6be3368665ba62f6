// oxlint-disable vitest/no-conditional-expect, no-await-in-loop -- a property has its cases
import * as fc from "fast-check";
import { expect, test } from "vitest";

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { ALL, startHub } from "../../support/hub.ts";

const RUNS = "/api/v1/scripts/runs";
const NAMES = [
  "idempotency-key",
  "accept",
  "authorization",
  "x-request-id",
  "content-type",
  "content-length-x",
  "origin",
];

/** What a header may hold on the wire (RFC 9110, section 5.5): any byte but the control characters, and tabs. */
const headerByte = fc.oneof(
  fc.integer({ min: 0x20, max: 0x7e }),
  fc.integer({ min: 0x80, max: 0xff }),
  fc.constant(0x09),
);
const value = fc
  .oneof(
    fc.array(headerByte, { maxLength: 300 }).map((bytes) => String.fromCharCode(...bytes)),
    fc.constantFrom("", "*/*", "text/plain", "text/plain;q=0, application/json", "Bearer", "Bearer  "),
    fc.constantFrom("bearer x y", ",", ";;", '"x"', "a".repeat(4_000)),
  )
  .map((text) => text.trim());

test("headers of random bytes never cause a server error, and only valid ones are returned", async () => {
  await using hub = await startHub();
  const run = await hub.runScript("echo on");
  await hub.ended(run);
  await fc.assert(
    fc.asyncProperty(
      fc.dictionary(fc.constantFrom(...NAMES), value, { maxKeys: 3 }),
      fc.boolean(),
      async (headers, isLaunch) => {
        const answer = isLaunch
          ? await hub.post(RUNS, { path: `${hub.root}/missing.sh` }, { headers })
          : await hub.get(`${RUNS}/${run.run_id}/logs`, { headers });
        expect(answer.status).toBeLessThan(500);
        expect(answer.headers.get("x-request-id")).toMatch(/^[\x21-\x7e]{1,200}$/);
      },
    ),
    { numRuns: 120, interruptAfterTimeLimit: 3_000 },
  );
});

test("a query of random text never causes a server error, and a list has only what was requested", async () => {
  await using hub = await startHub();
  const run = await hub.runScript("echo on");
  for (const code of [0, 3, 4]) await hub.ended(await hub.runScript(`exit ${code}`));
  await hub.ended(run);
  const all = (await hub.get(RUNS)).json.runs as RunRecord[];
  const cursors = (await Promise.all([1, 2, 3].map((limit) => hub.get(`${RUNS}?limit=${limit}`)))).map(
    ({ json }) => json.next_cursor as string,
  );
  const text = fc.oneof(
    fc.string({ unit: "binary", maxLength: 30 }),
    fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }).map(String),
    fc.constantFrom(
      "",
      "0",
      "-0",
      "1e3",
      "0x10",
      "00",
      " 1",
      "1 ",
      "９",
      "9".repeat(15),
      "9".repeat(16),
      "NaN",
      "null",
    ),
  );
  const route = fc.constantFrom(
    RUNS,
    `${RUNS}/${run.run_id}/logs`,
    "/api/v1/scripts",
    "/api/v1/scripts/content",
  );
  const known = fc.constantFrom(
    ...cursors.map((cursor) => [RUNS, "cursor", cursor] as const),
    ...["1", "2", "3"].map((limit) => [RUNS, "limit", limit] as const),
    ...["failed", "completed", "killed"].map((status) => [RUNS, "status", status] as const),
  );
  const field = fc.constantFrom("cursor", "limit", "status", "after", "max_bytes", "wait", "path");
  await fc.assert(
    fc.asyncProperty(
      fc.oneof({ weight: 4, arbitrary: fc.tuple(route, field, text) }, { weight: 1, arbitrary: known }),
      async ([path, name, given]) => {
        fc.pre(!(name === "wait" && /^[1-9]\d?$/.test(given)));
        const { status, json } = await hub.get(
          `${path}?${name}=${encodeURIComponent(given.toWellFormed())}`,
          { key: ALL.key },
        );
        expect(status).toBeLessThan(500);
        if (status !== 200 || path !== RUNS) return;
        const runs = json.runs as RunRecord[];
        if (given === "") expect(runs).toEqual(all);
        else if (name === "cursor") {
          const at = cursors.indexOf(given);
          expect(runs).toEqual(all.slice(at < 0 ? all.length - runs.length : at + 1));
        } else if (name === "limit") expect(runs).toEqual(all.slice(0, Number(given)));
        else if (name === "status") expect(runs).toEqual(all.filter((each) => each.status === given));
      },
    ),
    { numRuns: 120, interruptAfterTimeLimit: 3_000 },
  );
});
