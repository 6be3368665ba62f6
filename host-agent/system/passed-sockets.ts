/** The first descriptor that systemd passes (sd_listen_fds(3)). */
const FIRST = 3;

/**
 * The descriptors of the sockets that systemd has bound for this process. None when the variables are
 * missing or for another process, such as the parent of this one.
 */
export function passedSockets(env: Readonly<Record<string, string | undefined>>): number[] {
  if (env["LISTEN_PID"] !== String(process.pid)) return [];
  const count = /^\d{1,3}$/.exec(env["LISTEN_FDS"] ?? "")?.[0] ?? "0";
  return Array.from({ length: Number(count) }, (_, index) => FIRST + index);
}
