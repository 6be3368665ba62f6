import * as z from "zod";

// What a run may use at most, as a recipe and a setting say it.

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  K: 1_024,
  M: 1_048_576,
  G: 1_073_741_824,
  T: 1_099_511_627_776,
};
/** Less than a shell and the wrapper need. */
const LEAST_MEMORY = 1_048_576;
const SIZE = /^(\d{1,15}(?:\.\d{1,3})?)([KMGT]?)$/;

/** Bytes as a number, or as text with K, M, G or T for powers of 1024: `2G`, `1.5G`. */
export const MemorySize = z
  .union([z.number(), z.string()], 'must be bytes, or a size such as "2G"')
  .transform((value, context) => {
    const [, digits = "", unit = ""] = SIZE.exec(String(value)) ?? [];
    const bytes = digits === "" ? Number.NaN : Math.floor(Number(digits) * UNITS[unit]!);
    if (Number.isSafeInteger(bytes) && bytes >= LEAST_MEMORY) return bytes;
    context.addIssue({
      code: "custom",
      message: 'must be at least 1048576 bytes, as a number or a size such as "2G"',
    });
    return z.NEVER;
  });

/** Cores: 0.5 is half of one. */
export const CpuCount = z
  .number()
  .min(0.01, "must be at least 0.01 cores")
  .max(4_096, "must be at most 4096 cores");

/** Processes and threads; fewer would not let the wrapper start the command. */
export const PidCount = z.int().min(8, "must be at least 8").max(4_194_304, "must be at most 4194304");
