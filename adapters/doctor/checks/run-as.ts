import { openRunUser } from "../../../host-agent/inspection.ts";
import { type Check, fail, messageOf, pass } from "../finding.ts";

/** Whether runs can be started as the user that is to have them: without it the service does not start. */
export const runAs: Check = {
  name: "Runs' user",
  async look({ agent }) {
    if (agent.runAs === undefined) return [];
    try {
      const { username, uid } = await openRunUser(agent.runAs);
      return [pass(`Runs are started as ${username} (uid ${uid}).`)];
    } catch (error) {
      return [fail(`${messageOf(error)}.`, "Name a user of this host in HUB_RUN_AS, or leave it out.")];
    }
  },
};
