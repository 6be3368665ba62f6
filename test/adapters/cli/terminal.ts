import { onTestFinished } from "vitest";

import type { Hub } from "../../support/hub.ts";
import { until } from "../../support/hub.ts";
import { BIN, clientEnv } from "./cli.ts";

export interface TerminalOptions {
  columns?: number;
  env?: Record<string, string>;
}

/** The client on a real pseudo-terminal: what it shows, keys to press, and its exit code. */
export async function onTerminal(
  hub: Pick<Hub, "url"> | string,
  args: readonly string[],
  options: TerminalOptions = {},
) {
  const { spawn } = await import("node-pty");
  const pty = spawn(process.execPath, [BIN, ...args], {
    cols: options.columns ?? 100,
    rows: 30,
    env: clientEnv(hub, { TERM: "xterm-256color", ...options.env }),
  });
  onTestFinished(() => pty.kill("SIGKILL"));
  let screen = "";
  pty.onData((text) => {
    screen += text;
  });
  const ended = Promise.withResolvers<number>();
  pty.onExit(({ exitCode }) => ended.resolve(exitCode));
  return {
    screen: () => screen,
    shows: (text: string) => until(() => screen.includes(text) || undefined),
    press: (keys: string) => pty.write(keys),
    ended: ended.promise,
  };
}

export const CTRL_C = "\u0003";
