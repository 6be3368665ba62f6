import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** What happens to the next request on its way to the agent. */
export type LineFault =
  | { kind: "cut" }
  | { kind: "cut answer"; after: number }
  | { kind: "delay"; ms: number }
  | { kind: "duplicate"; afterMs: number };

/** A line between the API and the agent's Unix socket, on which requests get lost, late, or arrive twice. */
export async function openLine(path: string, agentPath: string) {
  const faults: LineFault[] = [];
  const sockets = new Set<Socket>();
  const timers = new Set<NodeJS.Timeout>();

  function later(ms: number, work: () => void): void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      work();
    }, ms);
    timers.add(timer);
  }

  function track(socket: Socket, onClose: () => void = () => {}): void {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      sockets.delete(socket);
      onClose();
    });
  }

  /** The same bytes once more, on a connection of their own; nobody reads the answer. */
  function sendAgain(data: Buffer): void {
    const socket = connect(agentPath);
    track(socket);
    socket.on("data", () => socket.destroy());
    socket.write(data);
  }

  const server = createServer((client) => {
    const agent = connect(agentPath);
    let left = Infinity;
    track(client, () => agent.destroy());
    track(agent, () => client.destroy());
    client.on("data", (data: Buffer) => {
      const isHead = /^(?:GET|POST) /.test(data.toString("latin1", 0, 5));
      const fault = isHead ? faults.shift() : undefined;
      switch (fault?.kind) {
        case "cut":
          return client.destroy();
        case "cut answer":
          left = fault.after;
          break;
        case "delay":
          return later(fault.ms, () => agent.write(data));
        case "duplicate":
          later(fault.afterMs, () => sendAgain(data));
          break;
        default:
      }
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
  }).listen(path);
  await once(server, "listening");

  return {
    harm: (...next: LineFault[]) => void faults.push(...next),
    heal: () => void (faults.length = 0),
    async close(): Promise<void> {
      for (const timer of timers) clearTimeout(timer);
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
