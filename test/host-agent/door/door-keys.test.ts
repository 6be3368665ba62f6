import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { makeAgentKey } from "../../../adapters/keys/agent-pair.ts";
import { type PrivateKey } from "../../../host-agent/protocol/signature.ts";
import { openTrustedKeys } from "../../../host-agent/door/trusted-keys.ts";
import { refusal, startDoor } from "./real-door.ts";

describe("the trusted keys", () => {
  test("may be several, so that one can replace the other without a gap", async () => {
    await using door = await startDoor();
    const next = await makeAgentKey();
    expect(await refusal(door, await door.sign({ key: next }))).toBe("unknown_key");

    door.trust(next);
    expect(await door.send(await door.sign({ key: next }))).toMatch(/^HTTP\/1.1 200 /);
    expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);

    const file = JSON.parse(readFileSync(door.trustFile, "utf8")) as { keys: PrivateKey[] };
    writeFileSync(door.trustFile, JSON.stringify({ keys: file.keys.filter(({ kid }) => kid === next.kid) }));
    expect(await refusal(door, await door.sign())).toBe("unknown_key");
    expect(await door.send(await door.sign({ key: next }))).toMatch(/^HTTP\/1.1 200 /);
  });

  test("stay the last good ones while the file is malformed or removed", async () => {
    await using door = await startDoor();
    const broken = [
      "{",
      "{}",
      '{"keys":[{}]}',
      JSON.stringify({ keys: [door.key] }),
      '{"keys":[],"keys":[]}',
    ];
    for (const text of broken) {
      writeFileSync(door.trustFile, text);
      expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);
      expect(door.log.at(-1)).toMatchObject({ event: "trust_file_broken" });
    }
    rmSync(door.trustFile);
    expect(await door.send(await door.sign())).toMatch(/^HTTP\/1.1 200 /);

    writeFileSync(door.trustFile, '{"keys":[]}');
    expect(await refusal(door, await door.sign())).toBe("unknown_key");
  });

  test("must exist and be well-formed at the start, and never be private", async () => {
    await using door = await startDoor();
    const bad: [string, RegExp][] = [
      ["{", /JSON/],
      ['{"keys":[]}', /trusts no key/],
      ['{"keys":[{"kty":"RSA"}]}', /kty/],
      [JSON.stringify({ keys: [door.key] }), /this is a private key/],
      [readFileSync(door.trustFile, "utf8").replace(/"x": "[^"]+"/, '"x": "AAAA"'), /32 bytes/],
    ];
    for (const [text, reason] of bad) {
      writeFileSync(door.trustFile, text);
      const opening = openTrustedKeys(door.trustFile, () => {});
      await expect(opening).rejects.toThrow(reason);
      await expect(opening).rejects.toThrow(/^HUB_AGENT_TRUST: /);
    }
    await expect(openTrustedKeys(join(door.dir, "none"), () => {})).rejects.toThrow(/agent-pair/);
  });
});
