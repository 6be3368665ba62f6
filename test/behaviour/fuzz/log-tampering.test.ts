// oxlint-disable vitest/no-conditional-expect, no-await-in-loop -- a property has its cases
import {
  appendFileSync,
  lstatSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import * as fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";

import { readPage } from "../../../host-agent/logs/log-file.ts";
import { ApiProblem } from "../../../host-agent/protocol/problem.ts";
import { MAX_CHARACTER_BYTES } from "../../../host-agent/logs/utf8.ts";

type Tampering =
  | { kind: "append" | "replace"; bytes: Uint8Array }
  | { kind: "truncate"; size: number }
  | { kind: "unlink" | "link" };

const bytes = fc.uint8Array({ maxLength: 300 });
const tampering: fc.Arbitrary<Tampering> = fc.oneof(
  bytes.map((more) => ({ kind: "append" as const, bytes: more })),
  bytes.map((others) => ({ kind: "replace" as const, bytes: others })),
  fc.nat(300).map((size) => ({ kind: "truncate" as const, size })),
  fc.constantFrom({ kind: "unlink" as const }, { kind: "link" as const }),
);

/** What exists after it: the bytes of a log, or nothing that could be one. */
function tamper(path: string, there: Buffer | undefined, how: Tampering): Buffer | undefined {
  // Never through a link, which is for the reader to see.
  if (how.kind === "append") {
    const isLink = lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
    if (isLink) return undefined;
    appendFileSync(path, how.bytes);
    return Buffer.concat([there ?? Buffer.alloc(0), how.bytes]);
  }
  if (how.kind === "truncate") {
    if (!there) return undefined;
    truncateSync(path, how.size);
    return Buffer.concat([there, Buffer.alloc(how.size)]).subarray(0, how.size);
  }
  rmSync(path, { force: true });
  if (how.kind === "replace") writeFileSync(path, how.bytes);
  if (how.kind === "link") symlinkSync(`${path}.elsewhere`, path);
  return how.kind === "replace" ? Buffer.from(how.bytes) : undefined;
}

test("a log that is changed, cut, replaced or removed between two pages answers with its current bytes or a clear problem", async () => {
  const dir = mkdtempSync(join(tmpdir(), "tamper-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "log");
  writeFileSync(`${path}.elsewhere`, "what no reader of the log may see");
  const read = fc.record({
    after: fc.nat(400),
    maxBytes: fc.integer({ min: 1, max: 200 }),
    growing: fc.boolean(),
  });
  const met = { page: 0, log_gone: 0, offset_beyond_end: 0 };

  await fc.assert(
    fc.asyncProperty(bytes, fc.array(fc.tuple(tampering, read), { maxLength: 8 }), async (first, steps) => {
      rmSync(path, { force: true });
      writeFileSync(path, first);
      let there: Buffer | undefined = Buffer.from(first);
      for (const [how, { after, maxBytes, growing }] of steps) {
        there = tamper(path, there, how);
        const found = await readPage(path, { after, maxBytes, growing }).catch((error: unknown) => error);
        if (!there || after > there.length) {
          const code = there ? "offset_beyond_end" : "log_gone";
          expect(found).toBeInstanceOf(ApiProblem);
          expect((found as ApiProblem).code).toBe(code);
          met[code]++;
          continue;
        }
        const page = found as Awaited<ReturnType<typeof readPage>>;
        const rest = there.subarray(after);
        expect(page).toMatchObject({ offset: after + page.bytes.length, size: there.length });
        expect(Buffer.compare(page.bytes, rest.subarray(0, page.bytes.length))).toBe(0);
        expect(page.bytes.length).toBeLessThanOrEqual(Math.max(maxBytes, MAX_CHARACTER_BYTES));
        const mayBeEmpty = growing ? MAX_CHARACTER_BYTES - 1 : 0;
        if (page.bytes.length === 0) expect(rest.length).toBeLessThanOrEqual(mayBeEmpty);
        met.page++;
      }
    }),
    { numRuns: 400, interruptAfterTimeLimit: 8_000 },
  );
  // Else the tampering would prove little.
  for (const [what, times] of Object.entries(met)) expect(times, what).toBeGreaterThan(20);
});
