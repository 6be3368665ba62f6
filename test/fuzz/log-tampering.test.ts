// oxlint-disable vitest/no-conditional-expect, no-await-in-loop -- a property has its cases
import {
  appendFileSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import * as fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";

import { readPage } from "../../host-agent/log-file.ts";
import { ApiProblem } from "../../host-agent/protocol/problem.ts";

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

function tamper(path: string, how: Tampering): void {
  try {
    if (how.kind === "append") appendFileSync(path, how.bytes);
    else if (how.kind === "truncate") truncateSync(path, how.size);
    else {
      unlinkSync(path);
      if (how.kind === "replace") writeFileSync(path, how.bytes);
      // Into this test's own folder: what comes next may write through the link.
      if (how.kind === "link") symlinkSync(`${path}.elsewhere`, path);
    }
  } catch {
    // There is nothing left to tamper with.
  }
}

test("a log that is changed, cut, replaced or removed while it is read gives its own bytes or a clear problem", async () => {
  const dir = mkdtempSync(join(tmpdir(), "tamper-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const path = join(dir, "log");
  writeFileSync(`${path}.elsewhere`, "what no reader of the log may see");
  const reads = fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 1, max: 200 }), fc.boolean()), {
    minLength: 1,
    maxLength: 6,
  });

  await fc.assert(
    fc.asyncProperty(bytes, reads, fc.array(tampering, { maxLength: 6 }), async (first, wanted, changes) => {
      rmSync(path, { force: true });
      writeFileSync(path, first);
      const pages = wanted.map(([after, maxBytes, growing]) =>
        readPage(path, { after, maxBytes, growing }).then(
          (page) => ({ after, maxBytes, page }),
          (error: unknown) => error,
        ),
      );
      for (const change of changes) {
        tamper(path, change);
        await new Promise(setImmediate);
      }
      for (const found of await Promise.all(pages)) {
        if (found instanceof Error) {
          expect(found).toBeInstanceOf(ApiProblem);
          expect(["log_gone", "offset_beyond_end"]).toContain((found as ApiProblem).code);
          continue;
        }
        const { after, maxBytes, page } = found as {
          after: number;
          maxBytes: number;
          page: Awaited<ReturnType<typeof readPage>>;
        };
        expect(page.offset).toBe(after + page.bytes.length);
        expect(page.bytes.length).toBeLessThanOrEqual(Math.max(maxBytes, 4));
        expect(Buffer.from(page.bytes).toString("latin1")).not.toContain("no reader");
      }
    }),
    { numRuns: 400, interruptAfterTimeLimit: 8_000 },
  );
});
