import { useEffect, useMemo, useState } from "preact/hooks";

import { pause } from "../client/pause.ts";
import { type Api, createApi, needsKey } from "./api.ts";
import { BASE } from "./base.ts";
import { ConnectionBar } from "./connection-bar.tsx";
import { seen } from "./hooks.ts";
import { KeyForm } from "./key-form.tsx";
import { LaunchPage } from "./launch-page.tsx";
import { href, usePlace } from "./location.ts";
import { Notice } from "./notice.tsx";
import { RunPage } from "./run-page.tsx";
import { type RunsFeed, runsFeed } from "./runs-feed.ts";
import { RunsPage } from "./runs-page.tsx";
import { ScriptsPage } from "./scripts-page.tsx";
import { keepKey, keyOfThisTab } from "./session.ts";

/** Whether the console can be shown, and what it needs if not. */
type Gate =
  | { is: "asking" }
  | { is: "hub-away" }
  | { is: "key-needed"; refused?: string }
  | { is: "open"; key: string | undefined };

/** The console: the form for the key, then the pages. */
export function App() {
  const [gate, setGate] = useState<Gate>(() => {
    const key = keyOfThisTab();
    return key === undefined ? { is: "asking" } : { is: "open", key };
  });

  useEffect(() => {
    if (gate.is !== "asking") return undefined;
    let isCurrent = true;
    needsKey().then(
      (isNeeded) => isCurrent && setGate(isNeeded ? { is: "key-needed" } : { is: "open", key: undefined }),
      () => isCurrent && setGate({ is: "hub-away" }),
    );
    return () => {
      isCurrent = false;
    };
  }, [gate.is]);

  const enter = (key: string | undefined) => {
    keepKey(key);
    setGate({ is: "open", key });
  };
  const leave = (refused?: string) => {
    keepKey(undefined);
    setGate(refused === undefined ? { is: "asking" } : { is: "key-needed", refused });
  };

  if (gate.is === "open") return <Console key={gate.key} apiKey={gate.key} onLeave={leave} />;
  return (
    <main class="gate">
      <Brand />
      {gate.is === "asking" && <p role="status">Checking whether the Hub needs a key …</p>}
      {gate.is === "hub-away" && (
        <Notice kind="problem" title="The Hub does not answer">
          <p>
            Nothing answers at <code>{BASE}</code>. Check that the Hub is running and that this machine can
            reach it.
          </p>
          <button type="button" onClick={() => setGate({ is: "asking" })}>
            Retry
          </button>
        </Notice>
      )}
      {gate.is === "key-needed" && <KeyForm refused={gate.refused} onKey={enter} />}
    </main>
  );
}

const POLL_ALIVE_MS = 2_000;
const POLL_QUIET_MS = 5_000;
const POLL_FAILING_MS = 3_000;

function Console({ apiKey, onLeave }: { apiKey: string | undefined; onLeave(refused?: string): void }) {
  const api = useMemo(() => createApi(apiKey, (detail) => onLeave(detail)), [apiKey]);
  const feed = useMemo(() => runsFeed(api), [api]);
  const [wake, setWake] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    void keepFresh(feed, stop.signal);
    return () => stop.abort();
  }, [feed, wake]);

  return (
    <div class="console">
      <a class="skip" href="#main" onClick={skipToMain}>
        Skip to the content
      </a>
      <Header isDev={apiKey === undefined} onLeave={() => onLeave()} />
      <ConnectionBar onRetry={() => setWake((n) => n + 1)} />
      <Page api={api} feed={feed} />
    </div>
  );
}

/** Polls while the page is visible. The connection bar shows failures. */
async function keepFresh(feed: RunsFeed, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await seen(signal);
    if (signal.aborted) return;
    const failed = await feed.poll().then(
      () => false,
      () => true,
    );
    const isAlive = feed.view.get().runs.some((run) => run.ended_at === null);
    await pause(failed ? POLL_FAILING_MS : isAlive ? POLL_ALIVE_MS : POLL_QUIET_MS, signal);
  }
}

function Page({ api, feed }: { api: Api; feed: RunsFeed }) {
  const { path, query } = usePlace();
  const [section = "runs", item] = path;
  // What had the focus may have left with the last page: without this the keyboard would start at the top again.
  useEffect(() => {
    if (document.activeElement === document.body) document.getElementById("main")?.focus();
  }, [section, item]);
  if (section === "runs" && item !== undefined)
    return <RunPage key={item} api={api} feed={feed} runId={item} />;
  if (section === "runs") return <RunsPage api={api} feed={feed} query={query} />;
  if (section === "launch") return <LaunchPage api={api} feed={feed} recipeId={item} />;
  if (section === "scripts") return <ScriptsPage api={api} feed={feed} path={item} />;
  return (
    <main id="main" class="page" tabIndex={-1}>
      <Notice kind="empty" title="This page does not exist">
        <a href={href(["runs"])}>Go to the runs</a>
      </Notice>
    </main>
  );
}

function Header({ isDev, onLeave }: { isDev: boolean; onLeave(): void }) {
  const { path } = usePlace();
  const section = path[0] ?? "runs";
  const link = (to: string, name: string) => (
    <a href={href([to])} aria-current={section === to ? "page" : undefined}>
      {name}
    </a>
  );
  return (
    <header class="top">
      <Brand />
      <nav aria-label="Console">
        {link("runs", "Runs")}
        {link("launch", "Launch")}
        {link("scripts", "Scripts")}
        <a href="docs">API</a>
      </nav>
      {isDev ? (
        <span class="dev" title="This Hub has no API keys: everyone who can reach it can launch">
          dev mode
        </span>
      ) : (
        <button type="button" class="quiet" onClick={onLeave}>
          Forget key
        </button>
      )}
    </header>
  );
}

function Brand() {
  return (
    <a class="brand" href={href(["runs"])}>
      <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
        <rect width="32" height="32" rx="7" fill="currentColor" />
        <path d="M7 10h12M7 16h18M7 22h8" stroke="#fff" stroke-width="3.2" stroke-linecap="round" />
      </svg>
      Hub
    </a>
  );
}

/** The hash of the address is a place in the console, so the skip link moves the focus itself. */
function skipToMain(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
