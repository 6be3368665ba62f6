import type { LogIndex } from "./logs/log-index.ts";
import type { Agent } from "./protocol/agent.ts";

/** The same operations, which also keep the index of logs by run id. */
export function indexLogs(operations: Agent, index: LogIndex): Agent {
  return {
    ...operations,
    within: (reach) => indexLogs(operations.within(reach), index),
    async launch(order, signal) {
      const answer = await operations.launch(order, signal);
      if (!answer.replayed) index.add(answer.run.run_id, answer.run.log_path);
      return answer;
    },
  };
}
