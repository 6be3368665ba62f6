import { constants } from "node:os";

const names = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** The signal behind a shell's exit code of 128+n, or undefined for an ordinary code. */
export function signalOfExitCode(code: number): string | undefined {
  return code > 128 ? names.get(code - 128) : undefined;
}
