/**
 * What is wrong with the text of a file that JSON.parse has refused with `error`: where, and what to do next, without a full stop at
 * its end. It never quotes the text, as the message of the parser does: the file may hold a key.
 */
export function jsonFault({ message }: Error, text: string): string {
  const position = /at position (\d+)/.exec(message)?.[1];
  const lines = text.slice(0, position === undefined ? undefined : Number(position)).split("\n");
  const place = `line ${lines.length}, column ${lines.at(-1)!.length + 1}`;
  const next = "Correct it there (a missing or extra comma, quote or bracket), or restore the last good copy";
  return `it is not valid JSON (${text.trim() === "" ? "it is empty" : place}). ${next}`;
}
