import { describe, expect, test, vi } from "vitest";

import { isPublicAddress } from "../../../host-agent/callbacks/callback-rules.ts";
import { type Resolve } from "../../../host-agent/callbacks/callback-post.ts";
import { startHub } from "../../support/hub.ts";
import { addRun, answerWith, receiver, SECRET, startCallbacks, toLoopback } from "./callbacks-world.ts";

const PIPELINES = "/api/v1/pipelines/runs";

const env = (hosts: string) => ({ HUB_CALLBACK_HOSTS: hosts, HUB_CALLBACK_SECRET: SECRET });

describe("a callback goes to no address but the allowed ones", () => {
  test.for([
    ["http://hooks.example.com/"],
    ["https://hooks.example.com:8443/"],
    ["https://hooks.example.com./"],
    ["https://evil.example.com/"],
    ["https://hooks.example.com.evil.example/"],
    ["https://hooks.example.com@evil.example/"],
    ["https://user:pass@hooks.example.com/"],
    ["https://evil.example\\@hooks.example.com/"],
    ["https://evil.example#@hooks.example.com/"],
    ["https://hooks.example.com/#fragment"],
    ["https://hooks.example.com%2eevil.example/"],
    ["https://127.0.0.1/"],
    ["https://2130706433/"],
    ["https://0x7f.1/"],
    ["https://[::1]/"],
    ["https://[::ffff:127.0.0.1]/"],
    ["https://169.254.169.254/latest/meta-data"],
    ["http://localhost:9001/"],
    ["https://localhost:9000/"],
    ["ftp://hooks.example.com/"],
    ["file:///etc/passwd"],
    ["javascript:alert(1)"],
    ["//hooks.example.com/"],
    ["hooks.example.com"],
    [`https://hooks.example.com/${"x".repeat(2_048)}`],
    [""],
  ])("%s is refused at the launch", async ([callback_url]) => {
    await using hub = await startHub({ env: env("hooks.example.com,http://127.0.0.1:9000") });

    const { status, json } = await hub.post(PIPELINES, { recipe_id: "hello", callback_url });

    expect(status).toBe(422);
    expect(json.errors).toMatchObject([{ path: "body.callback_url" }]);
    // Which hosts there are is nobody's business but the operator's.
    expect(json.detail).not.toContain("example");
    expect((await hub.get(PIPELINES)).json.runs).toEqual([]);
  });

  test("every URL is refused when no host is listed, and the message gives that reason", async () => {
    await using hub = await startHub();

    const { json } = await hub.post(PIPELINES, { recipe_id: "hello", callback_url: "https://example.com/" });

    expect(json.errors).toEqual([
      { path: "body.callback_url", message: "is not accepted: the operator has allowed no callback hosts" },
    ]);
  });

  test.for([
    ["127.0.0.1", 4],
    ["10.1.2.3", 4],
    ["169.254.169.254", 4],
    ["100.64.0.1", 4],
    ["0.0.0.0", 4],
    ["::1", 6],
    ["::ffff:127.0.0.1", 6],
    ["::ffff:7f00:1", 6],
    ["fe80::1", 6],
    ["fd00:ec2::254", 6],
    ["64:ff9b::7f00:1", 6],
    ["2002:7f00:1::", 6],
  ] as const)("a listed name that resolves to %s is not called", async ([address, family]) => {
    const { received, port } = await receiver(answerWith(200), { tls: true });
    const resolve: Resolve = async () => [
      { address: "93.184.216.34", family: 4 },
      { address, family },
    ];
    const hub = startCallbacks([`hooks.example.com:${port}`], { resolve });
    addRun(hub.runs, `https://hooks.example.com:${port}/`);

    await hub.round();

    expect(received).toEqual([]);
    expect(hub.log).toMatchObject([{ result: "the name resolves to an address that is not public" }]);
  });

  test("a name is resolved once, and the connection goes to the checked address", async () => {
    const { received, port } = await receiver(answerWith(200), { tls: true });
    const resolve = vi.fn<Resolve>(toLoopback);
    // Flagged, so that an address of this machine is allowed.
    const hub = startCallbacks([`localhost:${port}+private`], { resolve });
    addRun(hub.runs, `https://localhost:${port}/`);

    await hub.round();

    expect(received).toHaveLength(1);
    expect(resolve).toHaveBeenCalledTimes(1);
  });

  test("a name that resolves to a private address is called when the operator flags it +private", async () => {
    const { received, port } = await receiver();
    const resolve = toLoopback;
    const url = `http://ci.corp.example:${port}/`;
    const flagged = startCallbacks([`http://ci.corp.example:${port}+private`], { resolve });
    const plain = startCallbacks([`http://ci.corp.example:${port}`], { resolve });
    addRun(plain.runs, url);
    await plain.round();
    expect(received).toEqual([]);

    addRun(flagged.runs, url);
    await flagged.round();

    expect(received).toHaveLength(1);
  });

  test("public addresses are distinguished from others", () => {
    expect(["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1"].map(isPublicAddress)).toEqual([
      true,
      true,
      true,
    ]);
    const others = [
      "192.168.0.1",
      "172.31.255.255",
      "224.0.0.1",
      "255.255.255.255",
      "::",
      "ff02::1",
      "2001:db8::1",
      "x",
    ];
    expect(others.filter(isPublicAddress)).toEqual([]);
  });

  test("the first and last address of each special-purpose range are not public, and their neighbours are", () => {
    const ranges = [
      ["10.0.0.0", "10.255.255.255"],
      ["100.64.0.0", "100.127.255.255"],
      ["127.0.0.0", "127.255.255.255"],
      ["169.254.0.0", "169.254.255.255"],
      ["172.16.0.0", "172.31.255.255"],
      ["192.0.0.0", "192.0.0.255"],
      ["192.0.2.0", "192.0.2.255"],
      ["192.88.99.0", "192.88.99.255"],
      ["192.168.0.0", "192.168.255.255"],
      ["198.18.0.0", "198.19.255.255"],
      ["198.51.100.0", "198.51.100.255"],
      ["203.0.113.0", "203.0.113.255"],
      ["224.0.0.0", "255.255.255.255"],
      ["2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"],
      ["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
      ["2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
      ["3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"],
      ["fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
      ["fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
      ["64:ff9b::", "64:ff9b::ffff:ffff"],
      ["::ffff:8.8.8.8", "::ffff:93.184.216.34"],
    ];
    expect(ranges.flat().filter(isPublicAddress)).toEqual([]);
    const neighbours = [
      ["9.255.255.255", "11.0.0.0"],
      ["100.63.255.255", "100.128.0.0"],
      ["126.255.255.255", "128.0.0.0"],
      ["169.253.255.255", "169.255.0.0"],
      ["172.15.255.255", "172.32.0.0"],
      ["191.255.255.255", "192.0.1.0"],
      ["192.88.98.255", "192.88.100.0"],
      ["192.167.255.255", "192.169.0.0"],
      ["198.17.255.255", "198.20.0.0"],
      ["203.0.112.255", "203.0.114.0"],
      ["223.255.255.255", "2001:200::"],
      ["2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::"],
      ["2003::", "3fff:1000::"],
    ].flat();
    expect(neighbours.filter(isPublicAddress)).toEqual(neighbours);
  });

  test.for(["0177.0.0.1", "127.1", "2130706433", "0x7f000001", "8.8.8.08", "2606:2800::1%eth0.", ""])(
    "%j is not a public address, because getaddrinfo(3) never returns it",
    (text) => expect(isPublicAddress(text)).toBe(false),
  );
});
