/** The longest character in UTF-8 (RFC 3629). */
export const MAX_CHARACTER_BYTES = 4;

/**
 * Where to end a page that starts at `bytes[0]` and may hold `limit` bytes: never
 * inside a UTF-8 character. If not even the first character fits, it is included
 * whole. Bytes that are not UTF-8 count as characters of one byte.
 *
 * A character that `bytes` itself cuts off is left out: a caller who knows that
 * nothing follows it takes all of `bytes` instead.
 */
export function endOfPage(bytes: Uint8Array, limit: number): number {
  const end = Math.min(limit, bytes.length);
  // Only the last three bytes can be the beginning of a character that goes past the end.
  for (let start = end - 1; start >= Math.max(0, end - MAX_CHARACTER_BYTES + 1); start--) {
    const byte = bytes[start]!;
    if (isContinuation(byte)) continue;
    const length = lengthOfCharacter(bytes, start);
    if (start + length <= end) return end;
    // The character at `start` goes past the end of the page, or of what there is to read.
    if (start > 0) return start;
    return length <= bytes.length ? length : 0;
  }
  return end;
}

/**
 * The bytes of the character that begins at `start`, or of the beginning of one
 * that breaks off (RFC 3629, section 4: no overlong forms, no surrogates, nothing
 * above U+10FFFF): what a decoder replaces by one U+FFFD stays in one piece. A
 * character cut off by the end of `bytes` counts in full.
 */
function lengthOfCharacter(bytes: Uint8Array, start: number): number {
  const lead = bytes[start]!;
  const length = lead < 0xc2 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 1;
  for (let i = 1; i < length && start + i < bytes.length; i++) {
    const byte = bytes[start + i]!;
    if (!isContinuation(byte) || (i === 1 && !mayBeSecond(lead, byte))) return i;
  }
  return length;
}

function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

function mayBeSecond(lead: number, second: number): boolean {
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second < 0xa0;
  if (lead === 0xf0) return second >= 0x90;
  if (lead === 0xf4) return second < 0x90;
  return true;
}
