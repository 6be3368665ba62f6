import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { startHub } from "../../support/hub.ts";
import { cli, faulty, serve, startCli, PATIENTLY } from "./cli.ts";
import { runRecord } from "../../support/runs.ts";

describe("hub logs -f", () => {
  test("hub logs -f prints every byte once and in order over a network that loses every second answer", async () => {
    await using hub = await startHub();
    const run = await hub.runScript("for i in $(seq 1 40); do echo line $i é한😀; sleep 0.02; done");
    const url = await faulty(hub, (request, count) =>
      request.url!.includes("/logs") && count % 2 === 1 ? (count % 4 === 1 ? "lose" : "cut") : "pass",
    );

    const followed = await cli(url, ["logs", run.run_id, "-f", "--since-start"]);

    expect(followed.code).toBe(0);
    expect(followed.stdout).toBe(await hub.log(run));
    expect(followed.stderr).toContain("trying again");
  });

  test("hub logs -f continues at its byte after the Hub was restarted behind the same address", async () => {
    await using hub = await startHub();
    const url = await faulty(
      {
        get url() {
          return hub.url;
        },
      },
      () => "pass",
    );
    const go = join(hub.dir, "go");
    const run = await hub.runScript(
      `echo before; until [ -e ${go} ]; do sleep 0.02; done; echo after; exit 7`,
    );
    const following = startCli(url, ["logs", run.run_id, "-f"]);
    await expect.poll(following.stdout, PATIENTLY).toBe("before\n");

    await hub.restart();
    await writeFile(go, "");

    expect(await following.finished).toMatchObject({ code: 7, stdout: "before\nafter\n" });
  });

  test("hub logs -f starts with the last ten lines, as tail does", async () => {
    await using hub = await startHub();
    const run = await hub.runScript("seq 1 100");
    await hub.ended(run);

    const followed = await cli(hub, ["logs", run.run_id, "-f"]);

    expect(followed.stdout).toBe("91\n92\n93\n94\n95\n96\n97\n98\n99\n100\n");
  });

  test("hub logs -f continues at the beginning of a truncated log, and reports it", async () => {
    await using hub = await startHub();
    const go = join(hub.dir, "go");
    const run = await hub.runScript(
      `echo a long first line; until [ -e ${go} ]; do sleep 0.02; done; echo new`,
    );
    const following = startCli(hub, ["logs", run.run_id, "-f"]);
    await expect.poll(following.stdout, PATIENTLY).toContain("first line");

    await writeFile(run.log_path, "");
    await writeFile(go, "");

    const followed = await following.finished;
    expect(followed.stdout).toBe("a long first line\nnew\n");
    expect(followed.stderr).toContain("truncated");
  });

  test("hub logs -f pauses between empty answers of a server that does not wait", async () => {
    let asked = 0;
    const record = runRecord();
    const url = await serve((request, response) => {
      if (!request.url!.includes("/logs")) {
        const gone = asked >= 2;
        response.setHeader("content-type", "application/json");
        response.end(
          JSON.stringify(gone ? { ...record, ended_at: 2, status: "completed", exit_code: 0 } : record),
        );
        return;
      }
      asked++;
      response.writeHead(200, { "hub-log-offset": "0", "hub-log-size": "0", "hub-log-more": "false" }).end();
    });

    const followed = await cli(url, ["logs", "run_000000000001", "-f", "--since-start"]);

    expect(followed.code).toBe(0);
    expect(asked).toBeLessThan(5);
  });

  test("hub logs -f exits with 69 when the Hub stays unreachable", async () => {
    await using hub = await startHub();
    const run = await hub.runScript("echo up; sleep 300");
    let away = false;
    const url = await faulty(hub, () => (away ? "cut" : "pass"));
    const following = startCli(url, ["logs", run.run_id, "-f", "--retry", "1"]);
    await expect.poll(following.stdout, PATIENTLY).toBe("up\n");
    away = true;
    await hub.kill(run);

    expect(await following.finished).toMatchObject({
      code: 69,
      stderr: expect.stringContaining("the connection was closed"),
    });
  });
});
