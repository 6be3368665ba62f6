import { rmSync } from "node:fs";
import { mkdir, open, rename } from "node:fs/promises";
import { dirname } from "node:path";

const BUFFER_CHARACTERS = 65_536;

export type AtomicOutput = Awaited<ReturnType<typeof openAtomicOutput>>;

/**
 * A text file that appears whole or not at all: written next to `path`, on the
 * disk before it takes the name. Makes the folder when it is missing. Throws
 * the error of the file system.
 */
export async function openAtomicOutput(path: string) {
  const unfinished = `${path}.${process.pid}.part`;
  await mkdir(dirname(path), { recursive: true });
  const file = await open(unfinished, "wx", 0o640);
  let pending = "";

  async function flush(): Promise<void> {
    const text = pending;
    pending = "";
    await file.writeFile(text);
  }

  return {
    async writeLine(line: string): Promise<void> {
      pending += `${line}\n`;
      if (pending.length >= BUFFER_CHARACTERS) await flush();
    },
    /** Gives the file its name, replacing an existing one. */
    async commit(): Promise<void> {
      await flush();
      await file.sync();
      await file.close();
      await rename(unfinished, path);
    },
    /** Leaves nothing behind. Synchronous, so that it can be the last thing a process does. */
    discard(): void {
      rmSync(unfinished, { force: true });
    },
  };
}
