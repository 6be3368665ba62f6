import { ApiProblem } from "../protocol/problem.ts";

/** How many launches are worked on at a time, and how many may wait for their turn. */
export interface LaunchQueueBounds {
  /** Worked on at a time. */
  atOnce: number;
  /** Most that wait. */
  waiting: number;
  /** Most of them with keys of one name: no key can take all the places. */
  waitingPerKey: number;
  /** Most characters of the orders that wait, together. */
  waitingText: number;
}

/**
 * More at a time start no more runs a second: one process forks for all of them. And a start that waits in that process
 * would be taken for one that got no answer.
 */
const BOUNDS: LaunchQueueBounds = {
  atOnce: 16,
  waiting: 4_096,
  waitingPerKey: 2_048,
  waitingText: 33_554_432,
};

/** What is known of a launch that waits. */
export interface Place {
  keyName: string;
  /** The length of its order, in characters: so much memory it holds. */
  text: number;
  /** Aborts when the client has closed the connection. */
  signal: AbortSignal | undefined;
}

export type LaunchQueue = ReturnType<typeof createLaunchQueue>;

interface Waiting extends Place {
  begin(): void;
  refuse(problem: ApiProblem): void;
}

/**
 * Lets launches wait for their turn, so that a burst is started at the rate of the host and not refused. The keys take turns: one
 * with a thousand launches delays another key's by one turn. A launch that has not begun leaves nothing behind when its client
 * disconnects.
 */
export function createLaunchQueue(bounds: LaunchQueueBounds = BOUNDS) {
  /** Those that wait, by key, in the order of their turns. */
  const queues = new Map<string, Set<Waiting>>();
  let active = 0;
  let count = 0;
  let text = 0;
  let isStopped = false;

  function remove(waiting: Waiting): void {
    const queue = queues.get(waiting.keyName);
    if (!queue?.delete(waiting)) return;
    if (queue.size === 0) queues.delete(waiting.keyName);
    count--;
    text -= waiting.text;
  }

  function next(): void {
    const [turn] = queues;
    if (turn === undefined || active >= bounds.atOnce) return;
    const [keyName, queue] = turn;
    const [waiting] = queue;
    remove(waiting!);
    // This key's next turn comes after those of all others.
    if (queues.delete(keyName)) queues.set(keyName, queue);
    active++;
    waiting!.begin();
  }

  function checkBounds({ keyName, text: more }: Place): void {
    if (isStopped) throw stopping();
    const ofKey = queues.get(keyName)?.size ?? 0;
    if (ofKey >= bounds.waitingPerKey) throw tooMany(` with the API key ${keyName}`, bounds.waitingPerKey);
    if (count >= bounds.waiting) throw tooMany("", bounds.waiting);
    if (text + more > bounds.waitingText) throw tooMany("", count);
  }

  async function turnOf(place: Place): Promise<void> {
    if (active < bounds.atOnce && count === 0 && !isStopped) {
      active++;
      return;
    }
    checkBounds(place);
    await new Promise<void>((resolve, reject) => {
      const giveUp = (): void => {
        remove(waiting);
        reject(clientGone());
      };
      const done = (): void => place.signal?.removeEventListener("abort", giveUp);
      const waiting: Waiting = {
        ...place,
        begin() {
          done();
          resolve();
        },
        refuse(problem) {
          done();
          reject(problem);
        },
      };
      const queue = queues.get(place.keyName) ?? new Set();
      queues.set(place.keyName, queue.add(waiting));
      count++;
      text += place.text;
      place.signal?.addEventListener("abort", giveUp, { once: true });
    });
  }

  return {
    /**
     * Works on a launch when its turn has come. Throws `host_unavailable` when too many wait, when the client has gone
     * before its turn, and after `stop`: then nothing was begun.
     */
    async inTurn<T>(place: Place, work: () => Promise<T>): Promise<T> {
      if (place.signal?.aborted) throw clientGone();
      await turnOf(place);
      try {
        return await work();
      } finally {
        active--;
        next();
      }
    },
    /** How many wait. */
    waiting: () => count,
    /** Refuses all that wait, now and from now on. */
    stop(): void {
      isStopped = true;
      for (const queue of queues.values()) {
        for (const waiting of queue) {
          remove(waiting);
          waiting.refuse(stopping());
        }
      }
    },
  };
}

function tooMany(whose: string, most: number): ApiProblem {
  return new ApiProblem(
    "host_unavailable",
    `Too many launches wait for their turn${whose} (${most}); nothing was started. Try again later`,
    { retryAfterSeconds: 5 },
  );
}

function clientGone(): ApiProblem {
  return new ApiProblem("host_unavailable", "The client disconnected before its turn; nothing was started", {
    retryAfterSeconds: 1,
  });
}

function stopping(): ApiProblem {
  return new ApiProblem("host_unavailable", "The host-agent stops; nothing was started", {
    retryAfterSeconds: 1,
  });
}
