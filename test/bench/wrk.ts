import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface Load {
  url: string;
  connections: number;
  seconds: number;
  headers?: Record<string, string>;
}

/** Requests a second, as wrk measures them. Throws when any answer is not a 2xx. */
export async function requestsPerSecond({ url, connections, seconds, headers = {} }: Load): Promise<number> {
  const headerArgs = Object.entries(headers).flatMap(([name, value]) => ["-H", `${name}: ${value}`]);
  const { stdout } = await run("wrk", ["-t1", `-c${connections}`, `-d${seconds}s`, ...headerArgs, url]).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") throw new Error("the bench needs wrk: apt-get install wrk");
      throw error;
    },
  );
  if (/Non-2xx/.test(stdout)) throw new Error(`${url}: ${stdout}`);
  const rate = /^Requests\/sec:\s+([\d.]+)$/m.exec(stdout)?.[1];
  if (rate === undefined) throw new Error(`wrk printed no rate: ${stdout}`);
  return Number(rate);
}
