import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { describe, expect, onTestFinished, test } from "vitest";

import { ALL, sharedHub } from "../support/hub.ts";
import { needs } from "../support/needs.ts";
import { PYTHON } from "../support/shell.ts";

const PROGRAMS = join(import.meta.dirname, "programs");
const ENDLESS = {
  recipe_id: "endless",
  title: "Endless",
  description: "Writes one line and sleeps",
  command: ["/bin/sh", "-c", "echo begun; exec sleep 300"],
};

interface Client {
  /** As in the name of the test. */
  name: string;
  /** The program and its first arguments; its source follows. */
  command: [string, ...string[]];
  source: string;
  /** What succeeds where the client is installed. */
  probe: [string, ...string[]];
  /** What to install. */
  debian: string;
}

const python = (library: string, debian = `python3-${library}`): Client => ({
  name: `Python's ${library}`,
  command: [PYTHON],
  source: `with_${library}.py`,
  probe: [PYTHON, "-c", `import ${library.replace("urllib", "urllib.request")}`],
  debian,
});

const CLIENTS: Client[] = [
  {
    name: "curl",
    command: ["/bin/sh"],
    source: "curl.sh",
    probe: ["curl", "--json", "", "--version"],
    debian: "curl",
  },
  { name: "wget", command: ["/bin/sh"], source: "wget.sh", probe: ["wget", "--version"], debian: "wget" },
  python("urllib", "python3"),
  python("requests"),
  python("httpx"),
  python("aiohttp"),
  {
    name: "PHP's streams",
    command: ["php"],
    source: "streams.php",
    probe: ["php", "--version"],
    debian: "php-cli",
  },
  {
    name: "PHP's curl",
    command: ["php"],
    source: "curl.php",
    probe: ["php", "-r", "exit(function_exists('curl_init') ? 0 : 1);"],
    debian: "php-curl",
  },
  {
    name: "Ruby's Net::HTTP",
    command: ["ruby"],
    source: "net_http.rb",
    probe: ["ruby", "-rjson", "-e", ""],
    debian: "ruby",
  },
  {
    name: "Perl's HTTP::Tiny",
    command: ["perl"],
    source: "tiny.pl",
    probe: ["perl", "-MHTTP::Tiny", "-MJSON::PP", "-e", "1"],
    debian: "perl",
  },
  // It compiles the source first, which the runtime alone cannot.
  {
    name: "Java's HttpClient",
    command: ["java"],
    source: "Client.java",
    probe: ["javac", "--version"],
    debian: "default-jdk-headless",
  },
  {
    name: "Go's net/http",
    command: ["go", "run"],
    source: "client.go",
    probe: ["go", "version"],
    debian: "golang-go",
  },
];

describe("HTTP clients of others", () => {
  const shared = sharedHub({ recipes: [ENDLESS] });

  for (const { name, command, source, probe, debian } of CLIENTS) {
    const isInstalled = spawnSync(probe[0], probe.slice(1)).status === 0;
    test(
      `${name} launches with a key, gets the same run again, reads its log and kills it without a body`,
      { ...needs(isInstalled, `${debian} is not installed`), timeout: 240_000 },
      async () => {
        const hub = shared();

        const { code, stdout, stderr } = await run(command, source, { url: hub.url, folder: hub.dir });

        expect(stderr).toBe("");
        const [runId, again, ...rest] = stdout.split("\n");
        expect(runId).toMatch(/^run_[0-9a-f]{12}$/);
        expect({ code, again, rest }).toEqual({ code: 0, again: runId, rest: ["begun", "killed", ""] });
        expect(await hub.ended({ source: "pipeline", run_id: runId! })).toMatchObject({
          status: "killed",
          signal: "SIGTERM",
        });
      },
    );
  }
});

async function run(
  [file, ...args]: [string, ...string[]],
  source: string,
  { url, folder }: { url: string; folder: string },
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const env = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    LANG: "C.UTF-8",
    // Go keeps what it compiled there, and Python writes nothing next to the sources.
    HOME: folder,
    HUB_TMP: folder,
    HUB_URL: url,
    HUB_KEY: ALL.key,
  };
  const child = spawn(file, [...args, join(PROGRAMS, source)], {
    env,
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: child.exitCode, stdout, stderr };
}
