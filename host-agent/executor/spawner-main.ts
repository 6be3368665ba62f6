// spawner-main.ts - the process that starts runs for a host-agent, which asks for each over the channel of fork().
//
// It ends with the agent's end of the channel, whatever ended the agent: what was started by then belongs to
// nobody, and what was not never will be, for the next agent claims it (run.sh).
import { sendSignalAs } from "./send-signal.ts";
import { refusal, type SpawnerRequest } from "./spawner-protocol.ts";
import { startInCgroup } from "./start-in-cgroup.ts";
import { spawnWrapper, type StartWrapper } from "./start-run.ts";
import { openStarter, type Starter } from "./starter.ts";

// A Ctrl-C at a terminal reaches every process of its group: the agent has launches under way, and ends us after them.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => {});

let starter: Starter | undefined;

const startWrapper: StartWrapper = async (wrapper, onExit) => {
  const { helper } = wrapper;
  if (helper === undefined) return spawnWrapper(wrapper, onExit);
  // What it was asked to start, and its wrappers: of both nobody reports what becomes of them. The agent finds out.
  if (!starter?.isUsable()) starter = openStarter(helper, () => process.exit(1));
  return (await starter.start(wrapper, onExit)) ?? spawnWrapper(wrapper, onExit);
};

process.on("message", (request: SpawnerRequest) => {
  const { id } = request;
  const onExit = () => void (process.connected && process.send?.({ ended: id }));
  const called: Promise<unknown> =
    request.call === "startRun"
      ? startInCgroup(...request.args, { onExit, startWrapper })
      : sendSignalAs(...request.args);
  called.then(
    (result) => process.send?.({ id, result }),
    (error: unknown) => process.send?.(refusal(id, error)),
  );
});
process.on("disconnect", () => process.exit());
