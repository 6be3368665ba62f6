import { ONLY_ROOT } from "./other-user.ts";

/** A test that cannot run on every host, and why it cannot. */
export interface KnownSkip {
  /** The file from test/, then the groups and the test; a group means all its tests. */
  name: string;
  /** The reason that the test gives itself. */
  reason: string;
}

const onlyRoot = (name: string): KnownSkip => ({ name, reason: ONLY_ROOT });
const readable = (deployment: string): KnownSkip => ({
  name: `${deployment} > script confinement > a file that the host may not read is closed`,
  // behaviour/unreadable-script.test.ts tries the same as another user.
  reason: "root may read every file",
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
  onlyRoot("adapters/doctor/doctor-faults.test.ts"),
  onlyRoot("adapters/node/keys-path.test.ts"),
  onlyRoot("behaviour/no-passwd.test.ts"),
  onlyRoot("host-agent/system/make-folder.test.ts"),
  onlyRoot("behaviour/security/job-reach.test.ts"),
  onlyRoot("behaviour/security/log-dir.test.ts"),
  onlyRoot("behaviour/unreadable-script.test.ts"),
  onlyRoot("host-agent/executor/run-as.test.ts"),
  onlyRoot("host-agent/runs/stop.test.ts"),
];
