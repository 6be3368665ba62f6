import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { sha256 } from "../../../host-agent/system/sha256.ts";
import { verifyAuditLog } from "../../../host-agent/audit/audit-verify.ts";
import { auditCommand, auditFile, auditOf, openLog, tempLog } from "../../support/audit-log.ts";
import { startHub } from "../../support/hub.ts";

describe("verifying the audit log", () => {
  test.for<[string, (lines: string[]) => string[], RegExp]>([
    ["a changed line", (l) => l.with(4, l[4]!.replace("event 5", "event X")), /: line 5: was changed/],
    [
      "a changed number",
      (l) => l.with(4, l[4]!.replace('"seq":5', '"seq":6')),
      /: line 5: the entry 5 was removed/,
    ],
    ["a line that is no entry", (l) => l.with(4, "hello"), /: line 5: was changed: it is not an entry/],
    ["a removed line", (l) => l.toSpliced(4, 1), /: line 5: the entry 5 was removed or moved/],
    [
      "a removed first line",
      (l) => l.slice(1),
      /: line 1: the entries before 2 were removed, or are in an older file: .*--after [0-9a-f]{64}/,
    ],
    ["removed last lines", (l) => l.slice(0, -3), /: line 8: is missing: the entries 8 to 10/],
    ["an emptied file", () => [], /: line 1: is missing: the entries 1 to 10/],
    ["a doubled line", (l) => l.toSpliced(4, 0, l[4]!), /: line 6: was inserted or moved/],
    [
      "a foreign line",
      (l) => l.toSpliced(4, 0, l[3]!.replace('"seq":4', '"seq":5')),
      /: line 4: was changed/,
    ],
    [
      "two lines in the other order",
      (l) => l.with(4, l[5]!).with(5, l[4]!),
      /: line 5: the entry 5 was removed or/,
    ],
    ["a changed last line", (l) => l.with(9, l[9]!.replace("event 10", "event X")), /: line 10: was changed/],
    ["a line made to look torn", (l) => l.with(4, l[4]!.slice(0, 20)), /: line 5: was changed/],
  ])("finds %s and reports its line", async ([, tamper, message]) => {
    const log = await tempLog();
    for (let i = 1; i <= 10; i++) log.audit.record({ event: `event ${i}`, outcome: "ok" });
    const head = log.audit.head();
    expect(verifyAuditLog(log.path, { head }).fault).toBeUndefined();
    const lines = readFileSync(log.path, "utf8").trimEnd().split("\n");
    writeFileSync(
      log.path,
      tamper(lines)
        .map((line) => `${line}\n`)
        .join(""),
    );

    expect(`: ${verifyAuditLog(log.path, { head }).fault}`).toMatch(message);
  });

  test("finds each flipped byte, each removed, duplicate or moved line, and each cut, with a torn line among them", async () => {
    const log = await tempLog();
    for (let i = 1; i <= 4; i++) log.audit.record({ event: `event ${i}`, outcome: "ok" });
    appendFileSync(log.path, '{"seq":5,"time":"20');
    for (let i = 6; i <= 8; i++) log.audit.record({ event: `event ${i}`, outcome: "ok" });
    const whole = readFileSync(log.path);
    const head = log.audit.head();
    expect(verifyAuditLog(log.path, { head })).toMatchObject({ fault: undefined, lines: 9 });
    const lines = whole.toString().split(/(?<=\n)/);
    const line = fc.nat({ max: lines.length - 1 });
    const twoLines = fc.tuple(line, line).filter(([one, other]) => one !== other);
    const place = fc.nat({ max: whole.length - 1 });
    const tampered = fc.oneof(
      fc.tuple(place, fc.integer({ min: 1, max: 255 })).map(([at, bits]) => {
        const bytes = Buffer.from(whole);
        bytes[at]! ^= bits;
        return bytes;
      }),
      place.map((size) => whole.subarray(0, size)),
      place.map((size) => whole.subarray(size + 1)),
      line.map((at) => Buffer.from(lines.toSpliced(at, 1).join(""))),
      fc.tuple(line, line).map(([from, to]) => Buffer.from(lines.toSpliced(to, 0, lines[from]!).join(""))),
      twoLines.map(([one, other]) =>
        Buffer.from(lines.with(one, lines[other]!).with(other, lines[one]!).join("")),
      ),
    );
    fc.assert(
      fc.property(tampered, (bytes) => {
        writeFileSync(log.path, bytes);
        expect(verifyAuditLog(log.path, { head }).fault).toMatch(/^line \d+: /);
      }),
      { numRuns: 200 },
    );
    writeFileSync(log.path, whole);
  });

  test("starts a file that continues another one at the line of --after, and compares it with an older --head", async () => {
    const log = await tempLog();
    for (let i = 1; i <= 6; i++) log.audit.record({ event: `event ${i}`, outcome: "ok" });
    const lines = readFileSync(log.path, "utf8").trimEnd().split("\n");
    const hashes = lines.map((line) => sha256(line));
    const later = join(log.dir, "later.log");
    writeFileSync(later, `${lines.slice(3).join("\n")}\n`);
    const verify = (...options: string[]) => auditCommand(["verify", later, ...options]);
    const after = ["--after", hashes[2]!];

    expect(await verify()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`--after ${hashes[2]}`),
    });
    expect(await verify(...after)).toMatchObject({
      code: 0,
      stdout: `${later}: 3 lines, intact to 6:${hashes[5]}\n`,
    });
    for (const seq of [3, 4, 6]) {
      expect(await verify(...after, "--head", `${seq}:${hashes[seq - 1]}`)).toMatchObject({ code: 0 });
    }
    expect(await verify("--after", hashes[1]!)).toMatchObject({ code: 1 });
    expect(await verify(...after, "--head", `3:${hashes[0]}`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("follows another line than the entry 3"),
    });
    expect(await verify(...after, "--head", `2:${hashes[1]}`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("in the file before this one"),
    });
    expect(await auditCommand(["head", log.path])).toMatchObject({ code: 0, stdout: `6:${hashes[5]}\n` });
    expect(await auditCommand(["head", log.path, "--head", "6"])).toMatchObject({ code: 64 });
  });

  test("takes the last line from the database without --head", async () => {
    await using hub = await startHub();
    await hub.ended(await hub.runScript("true"));
    await hub.restart();
    const lines = readFileSync(auditFile(hub), "utf8").trimEnd().split("\n");
    expect(await auditOf(hub, "verify")).toMatchObject({ code: 0 });
    writeFileSync(auditFile(hub), `${lines.slice(0, 2).join("\n")}\n`);
    expect(await auditOf(hub, "verify")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("line 3: is missing"),
    });
    expect(await auditOf(hub, "nonsense")).toMatchObject({ code: 64 });
    expect(await auditCommand(["verify", join(hub.dir, "none")], hub.env)).toMatchObject({ code: 66 });
  });

  test("accepts a line torn at any byte, once the next entry explains it, and continues", async () => {
    const log = await tempLog();
    for (let i = 1; i <= 3; i++) log.audit.record({ event: `event ${i}`, outcome: "ok" });
    const whole = readFileSync(log.path);
    const lastStart = whole.lastIndexOf("\n", whole.length - 2) + 1;
    for (let cut = lastStart + 1; cut < whole.length; cut += 13) {
      writeFileSync(log.path, whole.subarray(0, cut));
      expect(verifyAuditLog(log.path, {})).toMatchObject({ fault: undefined, tornBytes: cut - lastStart });
      log.audit.record({ event: "after", outcome: "ok" });
      log.audit.record({ event: "after", outcome: "ok" });
      expect(verifyAuditLog(log.path, { head: log.audit.head() })).toMatchObject({
        fault: undefined,
        lines: 6,
      });
    }
    // Even its newline alone may be missing; and the next agent heals it as well.
    writeFileSync(log.path, whole.subarray(0, -1));
    const next = openLog(log.path);
    next.record({ event: "after", outcome: "ok" });
    expect(verifyAuditLog(log.path, { head: next.head() })).toMatchObject({ fault: undefined, lines: 5 });
    next.close();
  });

  test("finds one chain in a file to which two agents write alternately", async () => {
    const log = await tempLog();
    const other = openLog(log.path);
    for (let i = 0; i < 20; i++) (i % 3 ? log.audit : other).record({ event: "turn", outcome: "ok" });
    other.close();
    expect(verifyAuditLog(log.path, { head: log.audit.head() })).toMatchObject({
      fault: undefined,
      lines: 20,
    });
  });
});
