import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** What happens to one request: it is cut off, its answer is cut off after this number of bytes, or another server answers. */
export type Fault = "cut" | { cutAnswerAfter: number } | { answer: string };

/** A line of bytes between an edge and the agent's Unix socket, on which a test can do harm. */
export async function startLine(path: string, agentPath: string) {
  const faults: Fault[] = [];
  const sockets = new Set<Socket>();
  const requests: string[] = [];

  function carry(client: Socket): void {
    const agent = connect(agentPath);
    let left = Infinity;
    for (const [socket, other] of [
      [client, agent],
      [agent, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    client.on("data", (data) => {
      const head = /^(?:GET|POST) \S+/.exec(data.toString("latin1"))?.[0];
      if (head !== undefined) requests.push(head);
      const fault = head === undefined ? undefined : faults.shift();
      if (fault === "cut") return client.destroy();
      if (fault && "answer" in fault) return client.end(fault.answer);
      if (fault) left = fault.cutAnswerAfter;
      return agent.write(data);
    });
    agent.on("data", (data: Buffer) => {
      if (data.length < left) {
        left -= data.length;
        client.write(data);
      } else {
        client.end(data.subarray(0, left));
      }
    });
  }

  const start = async () => {
    const listening = createServer(carry).listen(path);
    await once(listening, "listening");
    return listening;
  };
  let server: Awaited<ReturnType<typeof start>> | undefined = await start();
  return {
    /** All requests that came to the line, as `METHOD target`. */
    requests,
    /** The next requests meet these faults, one each. */
    harm: (...next: Fault[]) => void faults.push(...next),
    async goDown(): Promise<void> {
      for (const socket of sockets) socket.destroy();
      if (server) await once(server.close(), "close");
      server = undefined;
    },
    async comeUp(): Promise<void> {
      server ??= await start();
    },
  };
}

export type Line = Awaited<ReturnType<typeof startLine>>;
