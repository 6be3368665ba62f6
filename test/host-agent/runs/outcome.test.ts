import { describe, expect, test } from "vitest";

import { signalOfExitCode } from "../../../host-agent/system/signals.ts";
import { classify, type Ending, findErrorLine } from "../../../host-agent/runs/outcome.ts";
import { DEFAULT_ERROR_MARKERS } from "../../../host-agent/catalogue/error-markers.ts";

const markers = DEFAULT_ERROR_MARKERS.map((source) => new RegExp(source, "u"));

describe("the error markers", () => {
  test.for([
    "Traceback (most recent call last):",
    "Error: boom",
    "ValueError: invalid literal for int() with base 10: 'x'",
    "KeyError: 'question'",
    "ValueError: 3 is not 4",
    "requests.exceptions.ConnectionError: refused",
    "java.lang.NullPointerException: null",
    "TypeError [ERR_INVALID_ARG_TYPE]: the path must be a string",
    "FATAL could not open the data set",
    "2026-05-15 10:44:44 FATAL: the database system is shutting down",
    "[FATAL] out of disk",
    "panic: runtime error: index out of range",
    "thread 'main' panicked at src/main.rs:2:5:",
    "thread 'main' (12345) panicked at src/main.rs:2:5:",
    "Segmentation fault",
    "./job.sh: line 2:  1234 Segmentation fault      (core dumped) ./features",
    "./job.sh: line 4: 12345 Aborted                 (core dumped) ./features",
    "Aborted (core dumped)",
    "Bus error",
  ])("report %j as a failure", (line) => {
    expect(findErrorLine(`before\n${line}\nafter\n`, markers)).toBe(line);
    expect(findErrorLine(`before\r\n${line}`, markers)).toBe(line);
  });

  test.for([
    "0 errors",
    "0 errors, 3 warnings",
    "error rate: 0.1",
    "Error rate: 0.1",
    "Errors: 0",
    "error: 0",
    "no errors found",
    "checked for Error: none",
    "MeanSquaredError: 0.012",
    "MeanAbsoluteError: 3.1e-05",
    "StandardError: 2.5 %",
    "no FATAL lines",
    "0 FATAL",
    "FATAL: 0",
    "fatality statistics",
    "do not panic: all is well",
    "panicking is not needed",
    "Killed 3 stale workers, as planned",
    "Aborted: 0",
    "SkillKilled",
    "Killed",
    "./job.sh: line 4: 12345 Killed                  sleep 100",
    "./job.sh: line 4: 12345 Terminated              sleep 100",
    "./job.sh: line 3: nvidia-smi: command not found",
    "./job.sh: 3: nvidia-smi: not found",
    "+ grep FATAL server.log",
    "++ echo 'Segmentation fault'",
    "+ echo 'job.sh: line 4: 12345 Aborted'",
    "the page was not found in the cache",
    "features: 12 found, 3 not found",
    "handled a Traceback (most recent call last)",
    "",
  ])("do not report %j as a failure", (line) => {
    expect(findErrorLine(`before\n${line}\nafter\n`, markers)).toBe(undefined);
  });

  test("match only in the last 20 lines that are not blank", () => {
    expect(findErrorLine(`Error: boom\n${"line\n\n".repeat(19)}`, markers)).toBe("Error: boom");
    expect(findErrorLine(`Error: boom\n${"line\n\n".repeat(20)}`, markers)).toBe(undefined);
  });

  test("need little time for a log without line ends", () => {
    const started = performance.now();
    for (const piece of ["a", "a.", "Error", "thread '", ": line 1: ", "FATAL "]) {
      findErrorLine(piece.repeat(8_192 / piece.length), markers);
    }
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});

describe("the status of an ended run", () => {
  const ending: Ending = { exitCode: 0, logTail: "", rebooted: false, markers };

  test("without an exit code is never completed", () => {
    for (const logTail of ["", "done\n", "completed with exit code 0\n", "Error: boom\n"]) {
      for (const rebooted of [false, true]) {
        const { status, exitCode, signal } = classify({ ...ending, exitCode: undefined, logTail, rebooted });
        expect(status).toBe(logTail.startsWith("Error") ? "failed" : "unknown");
        expect([exitCode, signal]).toEqual([undefined, undefined]);
      }
    }
  });

  test("after a reboot reports the reboot", () => {
    expect(classify({ ...ending, exitCode: undefined, rebooted: true }).statusReason).toContain("restarted");
  });

  test("quotes the line that decided it, on one line and shortened", () => {
    const { status, statusReason } = classify({
      ...ending,
      logTail: `Error: \u001b[31m${"x".repeat(5_000)}\n`,
    });
    expect(status).toBe("failed");
    expect(statusReason.length).toBeLessThan(300);
    expect(statusReason).not.toMatch(/\p{Cc}/u);
  });

  test("is failed with the limit after a time limit", () => {
    const stop = {
      cause: "timeout",
      signal: "SIGTERM",
      keyName: undefined,
      sent: true,
      deadline: undefined,
      timeoutSeconds: 30,
      logLimit: undefined,
      escalated: true,
    } as const;
    expect(classify({ ...ending, exitCode: 137, stop })).toEqual({
      status: "failed",
      exitCode: 137,
      signal: "SIGKILL",
      statusReason:
        "It ran longer than its recipe's 30 seconds and was sent SIGTERM, then SIGKILL after the grace period.",
    });
  });

  test("names signal n for exit code 128+n and for no other code", () => {
    expect([130, 137, 139, 143].map(signalOfExitCode)).toEqual(["SIGINT", "SIGKILL", "SIGSEGV", "SIGTERM"]);
    expect([0, 1, 127, 128, 200, 255].map(signalOfExitCode)).toEqual(Array(6).fill(undefined));
  });
});

describe("what could not be read for 5 minutes", () => {
  const ending: Ending = { exitCode: undefined, logTail: "", rebooted: false, markers };

  test("of the exit code makes a run unknown, and its record has the reason", () => {
    expect(classify({ ...ending, unreadable: "EIO" })).toMatchObject({
      status: "unknown",
      statusReason: expect.stringMatching(/exit code could not be read for 5 minutes \(EIO\), and its log/),
    });
  });

  test("of the log is named in the reason of a success, because no error was searched for", () => {
    expect(classify({ ...ending, exitCode: 0, logUnread: true })).toMatchObject({
      status: "completed",
      statusReason:
        "The command exited with code 0. Its log could not be read for 5 minutes and was not searched for errors.",
    });
  });
});
