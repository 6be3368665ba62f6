import { openRunUser } from "../../../host-agent/inspection.ts";
import { type Check, fail, messageOf, pass } from "../finding.ts";

/** Whether runs can be started as the user of HUB_RUN_AS: otherwise the service does not start. */
export const runAs: Check = {
  name: "Runs' user",
  async look({ agent }) {
    if (agent.runAs === undefined) return [];
    try {
      const { username, uid } = await openRunUser(agent.runAs);
      return [pass(`Runs are started as ${username} (uid ${uid}).`)];
    } catch (error) {
      return [fail(`${messageOf(error)}.`, "Set HUB_RUN_AS to a user of this host, or remove it.")];
    }
  },
};
