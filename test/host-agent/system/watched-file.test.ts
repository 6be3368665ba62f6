import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { describe, expect, onTestFinished, test } from "vitest";

import { fileVersion } from "../../../host-agent/system/file-version.ts";
import { watchFile, type WatchedFileOptions } from "../../../host-agent/system/watched-file.ts";

const MODULE = new URL("../../../host-agent/system/watched-file.ts", import.meta.url).href;

interface Change {
  name: string;
  make(path: string): void;
}

const good = (text: string): Change => ({
  name: `${text} is written`,
  make: (path) => writeFileSync(path, text),
});
/** A text with `!` is one that cannot be used. */
const BROKEN: Change = { name: "text that cannot be used is written", make: (p) => writeFileSync(p, "bad!") };
const REWRITTEN: Change = {
  name: "the file is written again, just as broken",
  make: (p) => {
    writeFileSync(`${p}.draft`, "bad!");
    renameSync(`${p}.draft`, p);
  },
};
const BROKEN_ELSE: Change = {
  name: "another broken text is written",
  make: (p) => writeFileSync(p, "worse!"),
};
const REMOVED: Change = { name: "the file is removed", make: (p) => rmSync(p, { recursive: true }) };
const UNREADABLE: Change = {
  name: "a folder takes its place",
  make: (p) => {
    rmSync(p, { force: true });
    mkdirSync(p);
  },
};
const NOTHING: Change = { name: "nothing happens", make: () => {} };
const SAME_LOOKS: Change = {
  name: "a file of the same size and time takes its place",
  make: (p) => {
    writeFileSync(`${p}.draft`, "two");
    utimesSync(p, 1_000, 1_000);
    utimesSync(`${p}.draft`, 1_000, 1_000);
    renameSync(`${p}.draft`, p);
  },
};

/** Each row: the changes of the file, each followed by one look; all that was reported; the value at the end. */
const TRANSITIONS: { steps: Change[]; reported: string[]; value: string }[] = [
  { steps: [good("one")], reported: ["loaded one"], value: "one" },
  { steps: [good("one"), NOTHING], reported: ["loaded one"], value: "one" },
  { steps: [good("one"), good("three")], reported: ["loaded one", "loaded three"], value: "three" },
  { steps: [good("one"), SAME_LOOKS], reported: ["loaded one", "loaded two"], value: "two" },
  { steps: [good("one"), BROKEN], reported: ["loaded one", "fault bad!"], value: "one" },
  { steps: [good("one"), UNREADABLE], reported: ["loaded one", "fault EISDIR"], value: "one" },
  { steps: [good("one"), REMOVED], reported: ["loaded one", "missing"], value: "one" },
  { steps: [good("one"), BROKEN, NOTHING], reported: ["loaded one", "fault bad!"], value: "one" },
  { steps: [good("one"), BROKEN, REWRITTEN], reported: ["loaded one", "fault bad!"], value: "one" },
  {
    steps: [good("one"), BROKEN, BROKEN_ELSE],
    reported: ["loaded one", "fault bad!", "fault worse!"],
    value: "one",
  },
  {
    steps: [good("one"), BROKEN, good("two")],
    reported: ["loaded one", "fault bad!", "loaded two"],
    value: "two",
  },
  {
    steps: [good("one"), BROKEN, good("two"), BROKEN],
    reported: ["loaded one", "fault bad!", "loaded two", "fault bad!"],
    value: "two",
  },
  { steps: [good("one"), BROKEN, REMOVED], reported: ["loaded one", "fault bad!", "missing"], value: "one" },
  {
    steps: [good("one"), BROKEN, REMOVED, BROKEN],
    reported: ["loaded one", "fault bad!", "missing", "fault bad!"],
    value: "one",
  },
  { steps: [good("one"), REMOVED, NOTHING], reported: ["loaded one", "missing"], value: "one" },
  {
    steps: [good("one"), REMOVED, good("two")],
    reported: ["loaded one", "missing", "loaded two"],
    value: "two",
  },
  { steps: [BROKEN], reported: ["fault bad!"], value: "initial" },
  { steps: [BROKEN, good("one")], reported: ["fault bad!", "loaded one"], value: "one" },
  { steps: [NOTHING], reported: ["missing"], value: "initial" },
  { steps: [NOTHING, good("one")], reported: ["missing", "loaded one"], value: "one" },
];

describe("A watched file", () => {
  test.each(TRANSITIONS.map((row) => [row.steps.map(({ name }) => name).join(", then "), row] as const))(
    "reports each change once when %s",
    async (_name, { steps, reported, value }) => {
      const { path, file, events } = watched();
      for (const { make } of steps) {
        make(path);
        await file.current();
      }
      expect(events).toEqual(reported);
      expect(await file.latest()).toBe(value);
    },
  );

  test("takes a missing file as a fault when its user has no rule for it", async () => {
    const events: string[] = [];
    const { onMissing: _rule, ...withoutRule } = recording(events);
    const file = watchFile(join(temporaryFolder(), "file"), withoutRule);
    await file.current();
    expect(events).toEqual(["fault ENOENT"]);
  });

  test("uses the value that onFault and onMissing return", async () => {
    const { path, file } = watched({ onFault: () => "closed", onMissing: (last) => `${last}, gone` });
    writeFileSync(path, "bad!");
    expect(await file.current()).toBe("closed");
    rmSync(path);
    expect(await file.current()).toBe("closed, gone");
  });

  test("is not read when it still has the version of the initial value", async () => {
    const { path } = watched();
    writeFileSync(path, "one");
    const again = watched({ version: fileVersion(path) }, path);
    expect(await again.file.current()).toBe("initial");
    writeFileSync(path, "three");
    expect(await again.file.current()).toBe("three");
  });

  test("is read once for calls of one moment", async () => {
    const { path, file, events } = watched();
    writeFileSync(path, "one");
    expect(await Promise.all([file.current(), file.current(), file.current()])).toEqual([
      "one",
      "one",
      "one",
    ]);
    expect(events).toEqual(["loaded one"]);
  });

  test("shows a change to each call that began after it, also while a look is under way", async () => {
    const parsing = Promise.withResolvers<void>();
    const { path, file } = watched({
      async parse(text) {
        await parsing.promise;
        return text;
      },
    });
    writeFileSync(path, "one");
    const before = file.current();
    await new Promise((resolve) => setTimeout(resolve, 50));
    writeFileSync(path, "three");
    const after = [file.current(), file.current()];
    parsing.resolve();
    expect(await before).toBe("one");
    expect(await Promise.all(after)).toEqual(["three", "three"]);
  });

  test("gives the last value without a look when that is asked for", async () => {
    const { path, file } = watched();
    writeFileSync(path, "one");
    expect(await file.latest()).toBe("initial");
    const looking = file.current();
    expect(await file.latest()).toBe("one");
    await looking;
  });

  test("tries a look again when onFault threw, and reports the fault then", async () => {
    let isStarting = true;
    const { path, file } = watched({
      onFault({ error }) {
        if (isStarting) throw error;
        return "closed";
      },
    });
    writeFileSync(path, "bad!");
    await expect(file.current()).rejects.toThrow("bad!");
    isStarting = false;
    expect(await file.current()).toBe("closed");
  });

  test("reports a lack of descriptors once as a passing fault, and reads the file as soon as it can", async () => {
    const dir = temporaryFolder();
    const program = `
      import { closeSync, openSync, writeFileSync } from "node:fs";
      import { watchFile } from ${JSON.stringify(MODULE)};
      const path = ${JSON.stringify(join(dir, "file"))};
      writeFileSync(path, "one");
      const file = watchFile(path, {
        initial: "initial",
        parse: (text) => text,
        onLoaded: (value) => console.log("loaded", value),
        onFault({ error, isPassing }, last) {
          console.log("fault", error.code, isPassing);
          return last;
        },
      });
      await file.current();
      writeFileSync(path, "three");
      const taken = [];
      try { for (;;) taken.push(openSync("/dev/null")); } catch {}
      for (let i = 0; i < 3; i++) console.log(await file.current());
      for (const fd of taken) closeSync(fd);
      console.log(await file.current());`;
    const limited = 'ulimit -n 64; exec "$0" --input-type=module --eval "$1"';
    const { stdout } = await promisify(execFile)("sh", ["-c", limited, process.execPath, program]);
    expect(stdout.trim().split("\n")).toEqual([
      "loaded one",
      "fault EMFILE true",
      "one",
      "one",
      "one",
      "loaded three",
      "three",
    ]);
  });
});

function watched(options: Partial<WatchedFileOptions<string>> = {}, path = join(temporaryFolder(), "file")) {
  const events: string[] = [];
  return { path, events, file: watchFile(path, { ...recording(events), ...options }) };
}

/** A watch that keeps its last value whatever happens, and records what is reported. */
function recording(events: string[]): WatchedFileOptions<string> {
  return {
    initial: "initial",
    parse(text) {
      if (text.includes("!")) throw new Error(text);
      return text;
    },
    onLoaded: (value) => events.push(`loaded ${value}`),
    onFault({ error }, last) {
      events.push(`fault ${(error as NodeJS.ErrnoException).code ?? error.message}`);
      return last;
    },
    onMissing(last) {
      events.push("missing");
      return last;
    },
  };
}

function temporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), "watched-file-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
