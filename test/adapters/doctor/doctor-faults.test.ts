import { chmod, chown, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { expect, test } from "vitest";

import { makeAgentKey } from "../../../adapters/keys/agent-pair.ts";
import { failuresOf, findings, install, type Installation, writeKeys, writeRecipe } from "./installation.ts";
import { ONLY_ROOT } from "../../support/other-user.ts";

const IS_ROOT = process.getuid?.() === 0;

interface Fault {
  name: string;
  /** Whether it can be put in here. */
  needsRoot?: boolean;
  put(installation: Installation): Promise<Record<string, string> | void>;
  says: RegExp;
  advises: RegExp;
}

const FAULTS: Fault[] = [
  {
    name: "a keys file that others may read",
    put: ({ keysFile }) => chmod(keysFile, 0o644),
    says: /keys\.json is open to other users \(mode 0644\)/,
    advises: /chmod 0600/,
  },
  {
    name: "a keys file that is not JSON",
    put: ({ keysFile }) => writeFile(keysFile, '{"keys": [{"name": '),
    says: /keys\.json cannot be used: .*not valid JSON/,
    advises: /npm run keys/,
  },
  {
    name: "a key with a scope that does not exist",
    put: (installation) => writeKeys(installation, { scopes: ["everything"] }),
    says: /cannot be used: keys\.0\.scopes\.0/,
    advises: /Fix it/,
  },
  {
    name: "keys that have all expired",
    put: (installation) => writeKeys(installation, { expires: "2020-01-31" }),
    says: /All keys have expired \(acme-prod\)/,
    advises: /Create a new one/,
  },
  {
    name: "no keys file on a public address",
    put: async ({ keysFile }) => {
      await rm(keysFile);
      return { HUB_HOST: "0.0.0.0" };
    },
    says: /keys file .* does not exist.* refuses to start/,
    advises: /keys -- create/,
  },
  {
    name: "a keys file inside a script root",
    put: async ({ root }) => {
      const inside = join(root, "keys.json");
      await writeFile(
        inside,
        JSON.stringify({ keys: [{ name: "a", key_sha256: "a".repeat(64), scopes: ["*"] }] }),
        { mode: 0o600 },
      );
      return { HUB_KEYS_FILE: inside };
    },
    says: /keys file .* is inside the root/,
    advises: /Move one of the two/,
  },
  {
    name: "a state folder of another user",
    needsRoot: true,
    put: ({ state }) => chown(state, 65_534, 65_534),
    says: /state belongs to uid 65534/,
    advises: /as the user of the service/,
  },
  {
    name: "a script root of another user",
    needsRoot: true,
    put: ({ root }) => chown(root, 65_534, 65_534),
    says: /scripts belongs to uid 65534, who decides what clients run/,
    advises: /chown/,
  },
  {
    name: "a script that every user may change",
    async put({ root }) {
      await mkdir(join(root, "nightly"));
      await writeFile(join(root, "nightly", "job.sh"), "true");
      await chmod(join(root, "nightly", "job.sh"), 0o666);
    },
    says: /nightly\/job\.sh is open to every user \(mode 0666\): others may change what clients run/,
    advises: /chmod go-w/,
  },
  {
    name: "a script of another user",
    needsRoot: true,
    async put({ root }) {
      await writeFile(join(root, "job.sh"), "true", { mode: 0o755 });
      await chown(join(root, "job.sh"), 65_534, 65_534);
    },
    says: /job\.sh belongs to uid 65534: others may change what clients run/,
    advises: /chown it to root/,
  },
  {
    name: "a recipes file of another user",
    needsRoot: true,
    put: ({ recipesFile }) => chown(recipesFile, 65_534, 65_534),
    says: /recipes\.json belongs to uid 65534: others may change what clients run/,
    advises: /chmod go-w/,
  },
  {
    name: "a recipes file that a group may change",
    needsRoot: true,
    async put({ recipesFile }) {
      await chown(recipesFile, 0, 65_534);
      await chmod(recipesFile, 0o664);
    },
    says: /recipes\.json is open to the group \d+ \(mode 0664\)/,
    advises: /chmod go-w/,
  },
  {
    name: "a folder of the keys file that belongs to another user",
    needsRoot: true,
    async put({ dir }) {
      const folder = join(dir, "config");
      await mkdir(folder);
      const keysFile = join(folder, "keys.json");
      await writeKeys({ keysFile } as Installation, {});
      await chown(folder, 65_534, 65_534);
      return { HUB_KEYS_FILE: keysFile };
    },
    says: /config belongs to uid 65534: others may replace the keys file/,
    advises: /chown it to root/,
  },
  {
    name: "a log_dir that every user may write into",
    async put(installation) {
      const logs = join(installation.dir, "logs");
      await mkdir(logs);
      await chmod(logs, 0o777);
      await writeRecipe(installation, { log_dir: logs });
    },
    says: /Recipe hello: the folder of its logs, .*, is open to every user/,
    advises: /log_dir/,
  },
  {
    name: "a user for the runs that does not exist",
    put: async () => ({ HUB_RUN_AS: "no-such-user" }),
    says: /HUB_RUN_AS: "no-such-user" cannot be used/,
    advises: /user of this host/,
  },
  {
    name: "an audit log that is a folder",
    put: async ({ root }) => ({ HUB_AUDIT_FILE: root }),
    says: /scripts is not a regular file/,
    advises: /HUB_AUDIT_FILE/,
  },
  {
    name: "an audit log that is a link",
    async put({ dir, state }) {
      const path = join(dir, "audit.log");
      await symlink(join(state, "elsewhere"), path);
      return { HUB_AUDIT_FILE: path };
    },
    says: /audit\.log is not a regular file/,
    advises: /HUB_AUDIT_FILE/,
  },
  {
    name: "a trust file that every user may change",
    async put({ state }) {
      const path = join(state, "trusted_keys.json");
      await writeFile(path, '{"keys": []}');
      await chmod(path, 0o666);
    },
    says: /trusted_keys\.json is open to every user \(mode 0666\), who can add any edge/,
    advises: /chmod 0600/,
  },
  {
    name: "a folder of the trust file that every user may write into",
    put: async ({ dir }) => {
      const folder = join(dir, "trust");
      await mkdir(folder);
      await chmod(folder, 0o777);
      const path = join(folder, "trusted_keys.json");
      await writeFile(path, '{"keys": []}', { mode: 0o600 });
      return { HUB_AGENT_TRUST: path };
    },
    says: /trust is open to every user \(mode 0777\): others may replace the trust file/,
    advises: /chmod go-w/,
  },
  {
    name: "a file where the state folder should be",
    put: async ({ state }) => {
      await rm(state, { recursive: true });
      await writeFile(state, "");
      return { HUB_KV: "memory:" };
    },
    says: /state is not a folder/,
    advises: /HUB_STATE_DIR/,
  },
  {
    name: "a script root that is missing",
    put: ({ root }) => rm(root, { recursive: true }),
    says: /scripts does not exist/,
    advises: /mkdir -p/,
  },
  {
    name: "a script root that every user may write into",
    put: ({ root }) => chmod(root, 0o777),
    says: /Every user may put scripts into .* \(mode 0777\)/,
    advises: /chmod o-w/,
  },
  {
    name: "a malformed recipes file",
    put: ({ recipesFile }) => writeFile(recipesFile, '{"recipes": [{}]}'),
    says: /recipes\.json cannot be used: .*recipe_id/,
    advises: /README/,
  },
  {
    name: "a recipe whose program is missing",
    put: (installation) => writeRecipe(installation, { command: ["no-such-program"] }),
    says: /Recipe hello: program "no-such-program" was not found or is not executable/,
    advises: /Install it/,
  },
  {
    name: "a recipe whose folder is missing",
    put: (installation) => writeRecipe(installation, { cwd: "nowhere" }),
    says: /Recipe hello: its folder .*nowhere does not exist/,
    advises: /cwd/,
  },
  {
    name: "a damaged record of runs",
    put: ({ state }) => writeFile(join(state, "runs.db"), "this was a database once".repeat(100)),
    says: /runs\.db .*(not a database|damaged)/,
    advises: /backup/,
  },
  {
    name: "a damaged KV",
    put: ({ state }) => writeFile(join(state, "kv.db"), "this was a database once".repeat(100)),
    says: /kv\.db cannot be written/,
    advises: /HUB_KV/,
  },
  {
    name: "a setting that is not a valid value",
    put: async () => ({ HUB_PORT: "eighty" }),
    says: /HUB_PORT: must be a port number/,
    advises: /docs\/configuration\.md/,
  },
  {
    name: "an agent that does not run",
    put: async () => ({
      HUB_AGENT_URL: "http://127.0.0.1:1",
      HUB_AGENT_KEY: JSON.stringify(await makeAgentKey()),
    }),
    says: /agent at http:\/\/127\.0\.0\.1:1 cannot be reached/,
    advises: /npm run agent/,
  },
];

test.concurrent.for(FAULTS)(
  "the doctor fails on $name, and says what to do",
  async ({ put, says, advises, needsRoot }, { skip, onTestFinished: atEnd }) => {
    if (needsRoot && !IS_ROOT) skip(ONLY_ROOT);
    const installation = await install(atEnd);
    const more = await put(installation);

    const failed = failuresOf(await findings({ ...installation.env, ...more }));

    expect(failed, JSON.stringify(failed)).toHaveLength(1);
    expect(failed[0]!.says).toMatch(says);
    expect(failed[0]!.advice).toMatch(advises);
  },
);

test("the doctor reports a setting that the agent cannot use either, and that nothing else was checked", async () => {
  const { env } = await install();
  const results = await findings({ ...env, HUB_MAX_RUNNING: "many" });
  expect(results).toMatchObject([
    { name: "Settings", status: "fail", says: expect.stringContaining("HUB_MAX_RUNNING") },
    { name: "Settings", status: "warn", says: "Nothing else was checked." },
  ]);
});
