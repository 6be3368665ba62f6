import { WHY_NO_CGROUP2 } from "./needs.ts";
import { ONLY_ROOT } from "./other-user.ts";

/** A test that cannot run on every host, and why it cannot. */
export interface KnownSkip {
  /** The file from test/, then the groups and the test; a group means all its tests. */
  name: string;
  /** The reason that the test gives itself. */
  reason: string;
}

const onlyRoot = (name: string): KnownSkip => ({ name, reason: ONLY_ROOT });
const withoutCgroup2 = (name: string): KnownSkip => ({ name, reason: WHY_NO_CGROUP2 });
const readable = (deployment: string): KnownSkip => ({
  name: `${deployment} > script confinement > a script that the host may not read is refused`,
  // behaviour/unreadable-script.test.ts tries the same as another user.
  reason: "root may read every file",
});

/** Large to install, and so used only where it is installed already. */
const client = (name: string, debian: string): KnownSkip => ({
  name: `clients/clients.test.ts > HTTP clients of others > ${name} launches with a key, gets the same run again, reads its log and kills it without a body`,
  reason: `${debian} is not installed`,
});

/** All that may be skipped where CI=true. A skip that is not in this list makes the run fail. */
export const KNOWN_SKIPS: readonly KnownSkip[] = [
  readable("behaviour/contract/node-embedded.test.ts > Node with the agent embedded"),
  readable("behaviour/contract/node-remote.test.ts > Node in front of a remote agent"),
  readable("behaviour/contract/workerd.test.ts > workerd in front of a remote agent"),
  {
    name: "adapters/workers/kv-workers.test.ts > Workers KV in workerd > KV > forgets a value when its time is over, counted from the last put",
    reason: "a test cannot move the clock of this KV",
  },
  {
    name: "host-agent/catalogue/recipes.test.ts > build_all_extra_features > builds the features of the 4,507 HaluEval records",
    reason: "HUB_TEST_DATA does not name a folder with the HaluEval data",
  },
  {
    name: "adapters/doctor/doctor.test.ts > the doctor fails without /proc",
    reason: "unshare may not mount here",
  },
  {
    name: "adapters/keys/cli.test.ts > the old keys file stays when the disk can hold only a part of the new one",
    reason: "unshare may not mount here",
  },
  {
    name: "host-agent/catalogue/script-roots.test.ts > a path that a client sends > touches nothing outside the roots, however it leads there and back",
    reason: "the file system of the temporary folder keeps no access times (noatime)",
  },
  {
    name: "host-agent/catalogue/scripts.test.ts > a script that cannot be looked at now > is neither forbidden nor missing: the answer is a 503 that names the error",
    reason: "unshare may not mount here",
  },
  {
    name: "host-agent/executor/command.test.ts > a script runs by the interpreter of its first line > on a file system that is mounted noexec",
    reason: "unshare may not mount here",
  },
  {
    name: "host-agent/executor/terminal-mode.test.ts > a command with a terminal does not wait for a person who scrolls the pages of git log",
    reason: "git is not installed",
  },
  {
    name: "host-agent/executor/terminal-mode.test.ts > a command with a terminal does not wait for a person who types a passphrase for ssh",
    reason: "ssh-keygen is not installed",
  },
  {
    name: "host-agent/system/make-folder.test.ts > a state folder on a read-only mount is reported as read-only, and not as missing",
    reason: "unshare may not mount here",
  },
  {
    name: "host-agent/system/make-folder.test.ts > a folder of the audit log on a read-only mount is reported as read-only",
    reason: "unshare may not mount here",
  },
  {
    name: "adapters/node/listening.test.ts > by default nobody else receives what is sent to localhost: the API listens on ::1 as well, or does not start",
    reason: "this machine has no ::1",
  },
  ...["ext4", "xfs"].map((kind) => ({
    name: `behaviour/power-loss.test.ts > a loss of power on ${kind}`,
    reason: `only root with mkfs.${kind} and a loop device can mount an image`,
  })),
  ...["only root can mount a small disk", "mount is not allowed here"].map((reason) => ({
    name: "behaviour/full-disk.test.ts",
    reason,
  })),
  { name: "behaviour/security/job-numbers.test.ts", reason: "this host has no tmpfs at /dev/shm" },
  { name: "mutate/mutants.test.ts", reason: "this is no clone of git" },
  {
    name: "host-agent/executor/wrapper.test.ts > under the shell's wrapper > a wrapper and its pump outlive the signals of faults that are sent to them",
    reason: "the shell's wrapper outlives those that a stop sends",
  },
  client("Java's HttpClient", "default-jdk-headless"),
  client("Go's net/http", "golang-go"),
  {
    name: "clients/openapi-generator.test.ts",
    reason: "default-jre-headless is not installed",
  },
  onlyRoot("adapters/doctor/doctor-faults.test.ts"),
  onlyRoot("adapters/node/keys-path.test.ts"),
  onlyRoot("behaviour/no-passwd.test.ts"),
  onlyRoot(
    "behaviour/inherited.test.ts > a job inherits nothing by chance of what started the service > no descriptor of root, under HUB_RUN_AS",
  ),
  onlyRoot("host-agent/system/make-folder.test.ts"),
  onlyRoot("behaviour/security/job-reach.test.ts"),
  onlyRoot("behaviour/security/log-dir.test.ts"),
  onlyRoot("behaviour/unreadable-exit.test.ts"),
  onlyRoot("behaviour/unreadable-script.test.ts"),
  onlyRoot(
    "host-agent/executor/process-passes.test.ts > a walk over the processes of the host > takes a process of another user for none of a run, although it carries its id",
  ),
  onlyRoot("host-agent/executor/run-as.test.ts"),
  onlyRoot("host-agent/executor/send-signal.test.ts > a signal to a run of another user"),
  {
    name: "host-agent/executor/send-signal.test.ts > a signal never reaches a process that has the pid of an ended one of the run",
    reason: "this user may not choose pids in a separate namespace",
  },
  onlyRoot("host-agent/runs/stop.test.ts"),
  withoutCgroup2("behaviour/cgroup.test.ts"),
  withoutCgroup2("host-agent/executor/cgroup-leaf.test.ts"),
  onlyRoot(
    "host-agent/executor/cgroup-leaf.test.ts > the wrapper of another user enters by the descriptor that root has opened",
  ),
  onlyRoot("host-agent/executor/cgroup-leaf.test.ts > a process of another user cannot leave its leaf"),
  onlyRoot(
    "behaviour/cgroup.test.ts > a host with cgroups > contains a run of another user, with HUB_RUN_AS",
  ),
];
