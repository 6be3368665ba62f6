/**
 * Reads a body to its end; undefined when it is longer than `maxBytes`, or when
 * `signal` aborts: then the rest is not waited for. Rejects when the body breaks off.
 */
export async function readAtMost(
  { body }: Pick<Request | Response, "body">,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  if (!body) return new Uint8Array();
  const reader = body.getReader();
  // Not awaited: a peer that sends slowly would delay the end.
  const cancel = () => void reader.cancel().catch(() => undefined);
  signal?.addEventListener("abort", cancel, { once: true });
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (signal?.aborted) return undefined;
    if (done) break;
    length += value.length;
    if (length > maxBytes) {
      cancel();
      return undefined;
    }
    chunks.push(value);
  }
  const all = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    all.set(chunk, offset);
    offset += chunk.length;
  }
  return all;
}
