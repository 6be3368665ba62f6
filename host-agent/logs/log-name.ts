/** `<name>__YYYYMMDD_HHMMSS.log` in local time, of characters that any file system and shell takes. */
export function logFileName(name: string, startedAt: Date, suffix = ""): string {
  return logFileNameAt(name, `${stampOf(startedAt)}${suffix}`);
}

/** The same with the letters of the date and time in their places. */
export function logFilePattern(name: string): string {
  return logFileNameAt(name, "YYYYMMDD_HHMMSS");
}

function logFileNameAt(name: string, stamp: string): string {
  return `${name.replaceAll(/[^\w.-]/g, "_").slice(0, 100)}__${stamp}.log`;
}

function stampOf(startedAt: Date): string {
  const date = `${startedAt.getFullYear()}${pad(startedAt.getMonth() + 1)}${pad(startedAt.getDate())}`;
  const time = `${pad(startedAt.getHours())}${pad(startedAt.getMinutes())}${pad(startedAt.getSeconds())}`;
  return `${date}_${time}`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}
