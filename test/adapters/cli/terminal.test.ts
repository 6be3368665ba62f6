import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";

import { describe, expect, test } from "vitest";

import { startHub, until } from "../../support/hub.ts";
import { cli } from "./cli.ts";
import { CTRL_C, onTerminal } from "./terminal.ts";

const ESC = "\u001b";

describe("on a terminal", () => {
  test("Ctrl-C in hub logs -f leaves the run alone, and hub prints how to follow and how to kill it", async () => {
    await using hub = await startHub();
    const run = await hub.runScript("echo up; sleep 300");
    const terminal = await onTerminal(hub, ["logs", run.run_id, "-f"], { columns: 200 });
    await terminal.shows("up");

    terminal.press(CTRL_C);

    expect(await terminal.ended).toBe(130);
    expect(terminal.screen()).toContain(`hub logs ${run.run_id} -f`);
    expect(terminal.screen()).toContain(`hub kill ${run.run_id}`);
    expect((await hub.run(run)).status).toBe("running");
    await hub.kill(run, { signal: "SIGKILL" });
  });

  test("hub logs -f on a terminal shows a status line with time and rate under the log, and removes it at the end", async () => {
    await using hub = await startHub();
    const go = join(hub.dir, "go");
    const run = await hub.runScript(`seq 1 500; until [ -e ${go} ]; do sleep 0.02; done`);
    const terminal = await onTerminal(hub, ["logs", run.run_id, "-f", "--since-start"]);
    await until(() => /running \d+s · 1\.9 kB · \d+ B\/s/.test(terminal.screen()) || undefined);
    await writeFile(go, "");

    expect(await terminal.ended).toBe(0);
    expect(terminal.screen()).toContain(`${ESC}[?25h`);
    expect(terminal.screen()).toContain(`${run.run_id} completed after `);
  });

  test("hub logs on a terminal shows control characters as text and colours as colours, and --raw prints the bytes", async () => {
    await using hub = await startHub();
    const run = await hub.runScript(
      String.raw`printf '\033]0;owned\007\033[2J\033[31mred\033[0m \033[1;1Hx\033P+q\033\\ \302\233 \342\200\256rtl \177\b\n'`,
    );
    await hub.ended(run);

    const shown = await onTerminal(hub, ["logs", run.run_id]);
    const raw = await onTerminal(hub, ["logs", run.run_id, "--raw"]);
    await Promise.all([shown.ended, raw.ended]);

    expect(shown.screen()).toContain(
      `^[]0;owned^G^[[2J${ESC}[31mred${ESC}[0m ^[[1;1Hx^[P+q^[\\ <U+009B> <U+202E>rtl ^?^H`,
    );
    expect(raw.screen()).toContain(`${ESC}]0;owned\u0007${ESC}[2J`);
    expect((await cli(hub, ["logs", run.run_id])).stdout).toContain(`${ESC}]0;owned\u0007`);
  });

  test("hub logs -f on a terminal recognises a colour sequence that arrives in two pieces", async () => {
    await using hub = await startHub();
    const go = join(hub.dir, "go");
    const run = await hub.runScript(
      String.raw`printf 'a\033[3'; until [ -e ${go} ]; do sleep 0.02; done; printf '2mgreen\033'`,
    );
    const terminal = await onTerminal(hub, ["logs", run.run_id, "-f"]);
    await terminal.shows("a");
    await writeFile(go, "");

    await terminal.ended;
    expect(terminal.screen()).toContain(`${ESC}[32mgreen`);
    expect(terminal.screen()).toContain(`^[${ESC}[0m`);
  });

  test("a table on a narrow terminal has one line for each row, and a hostile title stays in its cell", async () => {
    const recipes = Array.from({ length: 3 }, (_, i) => ({
      recipe_id: `recipe_${i}`,
      title: `漢字漢字漢字漢字 ${ESC}[2J\u202e\nsecond line ${"long ".repeat(20)}`,
      description: "description ".repeat(20),
      command: ["true"],
    }));
    await using hub = await startHub({ recipes });

    const terminal = await onTerminal(hub, ["recipes"], { columns: 40 });
    expect(await terminal.ended).toBe(0);
    const lines = terminal.screen().trimEnd().split("\r\n");

    expect(lines).toHaveLength(5);
    expect(terminal.screen()).not.toContain(`${ESC}[2J`);
    expect(stripVTControlCharacters(lines[4]!)).toMatch(/^recipe_2 {2}漢字\S+.*… {2,3}descr\S*.*…$/);
  });

  test.for([120, 80, 50, 40, 30])(
    "hub runs on a terminal of %i columns has one line for each run, with the whole id and status",
    async (columns) => {
      await using hub = await startHub();
      const run = await hub.runScript("exit 3");
      await hub.post("/api/v1/pipelines/runs", {
        recipe_id: "hello",
        args: "with ".repeat(20),
        label: "quartz",
      });
      await hub.ended(run);

      const terminal = await onTerminal(hub, ["runs"], { columns });
      expect(await terminal.ended).toBe(0);
      const lines = stripVTControlCharacters(terminal.screen()).trimEnd().split("\r\n");

      expect(lines).toHaveLength(3);
      for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
      expect(lines[2]).toMatch(new RegExp(`^${run.run_id} {2}failed {2,}.`));
    },
  );

  test("hub runs --watch redraws the list until Ctrl-C", async () => {
    await using hub = await startHub();
    const run = await hub.runScript("sleep 300");
    const terminal = await onTerminal(hub, ["runs", "--watch"]);
    await terminal.shows(run.run_id);
    await hub.kill(run, { signal: "SIGKILL" });
    await terminal.shows("killed");

    terminal.press(CTRL_C);

    expect(await terminal.ended).toBe(0);
  });
});
