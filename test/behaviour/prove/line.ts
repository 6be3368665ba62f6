import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** What happens to the next request to the agent. */
export type LineFault =
  | { kind: "cut" }
  | { kind: "cut answer"; after: number }
  | { kind: "delay"; ms: number }
  | { kind: "duplicate"; afterMs: number };

/** A line between the API and the agent's Unix socket, on which requests get lost, late, or arrive twice. */
export async function openLine(path: string, agentPath: string) {
  const faults: { fault: LineFault; onEffect: () => void }[] = [];
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
  function sendAgain(data: Buffer, onEffect: () => void): void {
    const socket = connect(agentPath, onEffect);
    track(socket);
    socket.on("data", () => socket.destroy());
    socket.write(data);
  }

  const server = createServer((client) => {
    const agent = connect(agentPath);
    let left = Infinity;
    let onCut: (() => void) | undefined;
    track(client, () => agent.destroy());
    track(agent, () => client.destroy());
    client.on("data", (data: Buffer) => {
      const isHead = /^(?:GET|POST) /.test(data.toString("latin1", 0, 5));
      const next = isHead ? faults.shift() : undefined;
      if (!next) return agent.write(data);
      const { fault, onEffect } = next;
      switch (fault.kind) {
        case "cut":
          onEffect();
          return client.destroy();
        case "cut answer":
          left = fault.after;
          onCut = onEffect;
          break;
        case "delay":
          return later(fault.ms, () => {
            if (agent.writable) onEffect();
            agent.write(data);
          });
        case "duplicate":
          later(fault.afterMs, () => sendAgain(data, onEffect));
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
        onCut?.();
        client.end(data.subarray(0, left));
      }
    });
  }).listen(path);
  await once(server, "listening");

  return {
    /** Harms the next request that comes; `onEffect` is called once that has made a difference. */
    harm: (fault: LineFault, onEffect: () => void) => void faults.push({ fault, onEffect }),
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
