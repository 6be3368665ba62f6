import { expiryTime, type KeyFileEntry } from "../../handlers/keys.ts";
import { KeysError } from "./editing.ts";
import { isOver } from "./rights.ts";

/** The end of the earlier keys of a name, and that of the new one: undefined when it was not said, or `never`. */
interface Ends {
  end: string;
  expires: string | undefined;
}

/**
 * A second key for one name, so that its runs and Idempotency-Keys stay one client's: the earlier keys, of which those of the
 * name end at `end`, and the new one with the rights of the newest of them. Throws KeysError when the name has no key in force, and when
 * its key expires and it was not said when the new one does.
 */
export function rotateKey(
  keys: readonly KeyFileEntry[],
  name: string,
  secret: Partial<KeyFileEntry>,
  { end, expires }: Ends,
): { earlier: KeyFileEntry[]; next: object } {
  const inForce = keys.filter((entry) => entry.name === name && !isOver(entry));
  const newest = inForce.at(-1);
  if (newest === undefined) {
    throw new KeysError(`${JSON.stringify(name)} has no key in force. Nothing was changed`);
  }
  if (newest.expires !== undefined && expires === undefined) {
    throw new KeysError(
      `The key ${name} expires (${newest.expires}): say when the new one does, as in --expires 90d, or --expires never. Nothing was changed`,
    );
  }
  const { key: _key, key_sha256: _hash, created: _created, expires: _expires, ...rights } = newest;
  const ending = new Set(inForce.filter((entry) => endOf(entry) > expiryTime(end)!));
  return {
    // One that ends before that keeps its end.
    earlier: keys.map((entry) => (ending.has(entry) ? { ...entry, expires: end } : entry)),
    next: { ...rights, ...secret, ...(expires !== undefined && expires !== "never" && { expires }) },
  };
}

function endOf({ expires }: KeyFileEntry): number {
  return expiryTime(expires) ?? Number.POSITIVE_INFINITY;
}
