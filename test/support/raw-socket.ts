import { connect } from "node:net";

/** What came back on a connection: text, one character a byte. */
export interface RawAnswer {
  status: number;
  headers: Headers;
  body: string;
  /** Everything, also the answers behind the first. */
  text: string;
}

/**
 * Sends bytes to the server at `url` as they are, and returns what it answers
 * until it closes the connection or `isEnough` of the text. With `hangUp` it
 * leaves when everything has been sent and the promise resolves.
 */
export async function rawRequest(
  url: string,
  bytes: string | Buffer | Iterable<Buffer>,
  { isEnough = isWhole, hangUp }: { isEnough?: (text: string) => boolean; hangUp?: Promise<void> } = {},
): Promise<RawAnswer> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = "";
  const closed = new Promise<void>((resolve) => {
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
      if (isEnough(text)) socket.destroy();
    });
    // The server may close while we still send: what it said before counts.
    socket.on("error", () => {});
    socket.on("close", () => resolve());
  });
  const parts = typeof bytes === "string" || Buffer.isBuffer(bytes) ? [bytes] : bytes;
  for (const part of parts) {
    if (socket.destroyed) break;
    const data = typeof part === "string" ? Buffer.from(part, "latin1") : part;
    await new Promise<void>((resolve) => {
      socket.write(data, () => resolve());
    });
  }
  void hangUp?.then(() => socket.destroy());
  await closed;
  return { ...parseAnswer(text), text };
}

function parseAnswer(text: string): Omit<RawAnswer, "text"> {
  const [head = "", ...rest] = text.split("\r\n\r\n");
  const [statusLine = "", ...lines] = head.split("\r\n");
  const headers = new Headers(
    lines.map((line): [string, string] => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    }),
  );
  return { status: Number(statusLine.split(" ")[1] ?? 0), headers, body: rest.join("\r\n\r\n") };
}

/** True for a first answer with all the bytes that its Content-Length promises. */
function isWhole(text: string): boolean {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return false;
  const length = /^content-length: (\d+)/im.exec(text.slice(0, end))?.[1];
  return length !== undefined && text.length >= end + 4 + Number(length);
}
