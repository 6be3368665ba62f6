/** Work that takes longer than a request may wait lets other work run after a number of milliseconds. */
const SLICE_MS = 4;

/** Resolves in the next turn of the event loop, after what waits for this one; at once while the slice is not used up. */
export function createSlices(sliceMs = SLICE_MS): () => Promise<void> {
  let until = performance.now() + sliceMs;
  return async () => {
    if (performance.now() < until) return;
    await new Promise<void>((resolve) => void setImmediate(resolve));
    until = performance.now() + sliceMs;
  };
}
