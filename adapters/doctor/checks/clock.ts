import { type Check, fail, pass } from "../finding.ts";

/** Nothing of this product is older. */
const EARLIEST = Date.parse("2026-01-01");
const TOLERANCE_MS = 2_000;

/** The clock: keys expire by it, signatures are dated by it. */
export const clock: Check = {
  name: "Clock",
  look() {
    const advice = "Run an NTP client: timedatectl set-ntp true";
    if (Date.now() < EARLIEST) return [fail(`The clock says ${new Date().toISOString()}.`, advice)];
    const drift = Math.round(Date.now() - (performance.timeOrigin + performance.now()));
    return [
      Math.abs(drift) > TOLERANCE_MS
        ? fail(`The clock was set by ${drift} ms while this ran.`, advice)
        : pass("The clock is sane, and runs steadily."),
    ];
  },
};
