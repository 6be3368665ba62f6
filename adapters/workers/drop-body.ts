/** Of a body that nobody has read, at most so much is read to its end. */
const MOST_BYTES = 1_048_576;
/** And for so long. */
const WITHIN_MS = 2_000;

/**
 * Reads a body that was refused unread, and drops it. With more than 64 KiB of it unread, workerd closes the connection right after
 * the answer, without a word in it: a client that still sends can lose the answer, and the next request on that connection fails. Node
 * does this by itself.
 */
export async function dropBody({ body, bodyUsed }: Pick<Request, "body" | "bodyUsed">): Promise<void> {
  if (body === null || bodyUsed) return;
  const reader: ReadableStreamDefaultReader<Uint8Array> = body.getReader();
  const cancel = () => void reader.cancel().catch(() => undefined);
  const timer = setTimeout(cancel, WITHIN_MS);
  try {
    for (let left = MOST_BYTES; left > 0;) {
      const { done, value } = await reader.read();
      if (done) return;
      left -= value.length;
    }
    cancel();
  } catch {
    // Its client is gone.
  } finally {
    clearTimeout(timer);
  }
}
