import { joinArgv } from "../../host-agent/protocol/argv.ts";
import type { RetryOptions } from "../client/retry.ts";
import type { Api } from "./api.ts";
import { chooseHost, type Env, hostsPath } from "./hosts.ts";
import type { Output } from "./output.ts";

/** The options of every command. */
export interface GlobalOptions {
  host?: string;
  json?: boolean;
  /** Seconds. */
  retry?: number;
}

/** How long a command retries without `--retry`, in seconds. */
const RETRY_SECONDS = { read: 5, launch: 60, follow: 600 };

export type Context = ReturnType<typeof createContext>;

/** What the commands work with. */
export function createContext({
  env,
  output,
  options,
}: {
  env: Env;
  output: Output;
  options: GlobalOptions;
}) {
  return {
    env,
    output,
    /** Print JSON. */
    json: options.json === true,
    hostName: options.host,
    hostsPath: hostsPath(env),
    /** The API of the Hub that this command uses. */
    async api(): Promise<Api> {
      const { hubApi } = await import("./api.ts");
      return hubApi(await chooseHost(env, options.host), env);
    },
    retries(purpose: keyof typeof RETRY_SECONDS, signal?: AbortSignal): RetryOptions {
      return { seconds: options.retry ?? RETRY_SECONDS[purpose], signal, warn: output.warn };
    },
    /** A command line that reaches the same Hub as this one. */
    commandLine(words: string): string {
      return options.host === undefined ? `hub ${words}` : `hub --host ${joinArgv([options.host])} ${words}`;
    },
  };
}
