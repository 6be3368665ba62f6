import { type Check, fail, pass } from "../finding.ts";

/** This product did not exist earlier. */
const EARLIEST = Date.parse("2026-01-01");
const TOLERANCE_MS = 2_000;

/** The clock: keys expire by it, and signatures carry its time. */
export const clock: Check = {
  name: "Clock",
  look() {
    const advice = "Run an NTP client: timedatectl set-ntp true";
    if (Date.now() < EARLIEST) return [fail(`The clock shows ${new Date().toISOString()}.`, advice)];
    const drift = Math.round(Date.now() - (performance.timeOrigin + performance.now()));
    return [
      Math.abs(drift) > TOLERANCE_MS
        ? fail(`The clock was changed by ${drift} ms during this check.`, advice)
        : pass("The clock is plausible and runs steadily."),
    ];
  },
};
