// terminal.js COMMAND [ARG...]: runs a command under a pseudo-terminal as part of a run (see run.sh). Its
// bytes go to our stdout, which is the run's log; its exit code becomes ours, 128+n after signal n.
//
// Plain JavaScript: to take the types out of one file costs each run as much as all the rest of its start.
import { readSync, writeSync } from "node:fs";

import { spawn } from "node-pty";

const COLUMNS = 120;
const ROWS = 30;
/**
 * Without it the terminal would write \r\n for \n; the log keeps what the command wrote. Once more when stty
 * was killed (128+n): anyone who kills processes of the run on the host may hit it. Nobody types into this terminal, so a command that
 * reads its input finds the end, as without a terminal, and does not wait forever. The limit of open files is put
 * back as in run.sh: this Node has raised it.
 */
const WITH_PLAIN_NEWLINES =
  'ulimit -S -n 1024 2>/dev/null; while stty -onlcr 2>/dev/null; [ $? -gt 128 ]; do :; done; exec "$@" </dev/null';

const pty = spawn("/bin/sh", ["-c", WITH_PLAIN_NEWLINES, "sh", ...process.argv.slice(2)], {
  name: process.env["TERM"] ?? "dumb",
  cols: COLUMNS,
  rows: ROWS,
  cwd: process.cwd(),
  env: process.env,
  encoding: null,
});

// Without an encoding they are bytes, whatever its types say.
pty.onData((data) => writeAll(/** @type {Uint8Array} */ (/** @type {unknown} */ (data))));
// Whatever makes node-pty close the terminal. It does so 200 ms after the end of the command, also when not all was read by then.
const { fd, _socket: socket } = /** @type {{ fd: number, _socket: import("node:tty").ReadStream }} */ (
  /** @type {unknown} */ (pty)
);
const destroy = socket.destroy.bind(socket);
socket.destroy = (error) => {
  if (!socket.destroyed) readRest();
  return destroy(error);
};
pty.onExit(({ exitCode, signal }) => {
  process.exitCode = signal ? 128 + signal : exitCode;
});

// A signal to a run goes to each of its processes, the command too: passing it on would deliver it twice,
// which many programs take for "now, by force". We only have to outlive it, for the rest of the output.
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]) process.on(signal, () => {});

/** Reads what is in the terminal. libuv 1.52 may take a short read for the last one, too (libuv#5165). */
function readRest() {
  const buffer = Buffer.alloc(65_536);
  try {
    for (let length = readSync(fd, buffer); length > 0; length = readSync(fd, buffer)) {
      writeAll(buffer.subarray(0, length));
    }
  } catch {
    // EIO is the end. EAGAIN: a daemon has the terminal open, and has written nothing.
  }
}

/**
 * Output for which the disk is full is lost, as it is without a terminal; the command and its exit code are not.
 * @param {Uint8Array} data
 */
function writeAll(data) {
  try {
    for (let written = 0; written < data.length;) {
      written += writeSync(1, data, written);
    }
  } catch {
    // There is nowhere to report it.
  }
}
