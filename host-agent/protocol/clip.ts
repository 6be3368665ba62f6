const MAX_SHOWN = 40;

/** A name that the client chose, short and printable enough to be shown to it. */
export function clipName(name: string): string {
  const printable = name.replaceAll(/[^\x20-\x7e]/g, "?");
  return printable.length > MAX_SHOWN ? `${printable.slice(0, MAX_SHOWN)}...` : printable;
}
