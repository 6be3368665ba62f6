/** A text without the byte order mark that editors on Windows put before it: JSON.parse takes the mark for a fault. */
export function withoutByteOrderMark(text: string): string {
  return text.startsWith("\uFEFF") ? text.slice(1) : text;
}
