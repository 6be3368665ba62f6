import { useMemo, useState } from "preact/hooks";

import type { ScriptContent, ScriptEntry } from "../../host-agent/protocol/script.ts";
import { byteCount } from "../client/units.ts";
import { type Api, isOutage } from "./api.ts";
import { fullTime } from "./format.ts";
import { useLoaded, useTitle } from "./hooks.ts";
import { LaunchForm } from "./launch-form.tsx";
import { href } from "./location.ts";
import { Notice, PollFailure } from "./notice.tsx";
import type { RunsFeed } from "./runs-feed.ts";
import { VirtualList } from "./virtual-list.tsx";
import { spelledOut } from "./visible-text.ts";

/** The scripts by folder, and the chosen one's form and source. */
export function ScriptsPage({ api, feed, path }: { api: Api; feed: RunsFeed; path: string | undefined }) {
  useTitle("Scripts");
  const { value, error, again } = useLoaded(() => api.listScripts(), "scripts");
  const [words, setWords] = useState("");
  const folders = useMemo(() => byFolder(value?.scripts ?? [], words), [value, words]);

  return (
    <main id="main" class={`page split${path === undefined ? "" : " chosen"}`} tabIndex={-1}>
      <section class="choices" aria-label="Scripts">
        <div class="choices-head">
          <h1>Scripts</h1>
          <input
            type="search"
            placeholder="Search paths"
            aria-label="Search the scripts"
            value={words}
            onInput={({ currentTarget }) => setWords(currentTarget.value)}
          />
        </div>
        {error && <PollFailure error={error} onRetry={again} />}
        {!value && (!error || isOutage(error)) && <p class="loading">Reading the scripts …</p>}
        {value?.scripts.length === 0 && (
          <Notice kind="empty" title="No scripts">
            <p>
              The script roots of the host contain no <code>.sh</code> file. The operator sets the roots with
              HUB_SCRIPT_ROOTS.
            </p>
          </Notice>
        )}
        {value?.truncated && <p class="aside">The host has more scripts than this list.</p>}
        {value && value.scripts.length > 0 && folders.length === 0 && <p class="loading">No path matches.</p>}
        <div class="folders" tabIndex={0} role="group" aria-label="Scripts by folder">
          {folders.map(([folder, scripts]) => (
            <section key={folder} aria-label={spelledOut(folder)}>
              <h2 class="folder">{spelledOut(folder)}</h2>
              <ul class="files">
                {scripts.map((script) => (
                  <li key={script.path}>
                    <a
                      href={href(["scripts", script.path])}
                      aria-current={script.path === path ? "true" : undefined}
                      title={fullTime(script.modified_at)}
                    >
                      <bdi>{spelledOut(script.name)}</bdi>
                      <span>{byteCount(script.size)}</span>
                    </a>
                  </li>
                ))}
              </ul>
            </section>
          ))}
        </div>
      </section>
      <section class="chosen-panel" aria-label="The chosen script">
        {path === undefined ? (
          <p class="loading">Choose a script to read it or to launch it.</p>
        ) : (
          <ChosenScript key={path} api={api} feed={feed} path={path} />
        )}
      </section>
    </main>
  );
}

function ChosenScript({ api, feed, path }: { api: Api; feed: RunsFeed; path: string }) {
  const { value, error, again } = useLoaded(() => api.readScript(path), path);
  return (
    <>
      <a class="back" href={href(["scripts"])}>
        ‹ Scripts
      </a>
      <h2>
        <bdi>{spelledOut(path.slice(path.lastIndexOf("/") + 1))}</bdi>
      </h2>
      <p>
        <code>{spelledOut(path)}</code>
      </p>
      {error && <PollFailure error={error} onRetry={again} />}
      {(!error || isOutage(error)) && <LaunchForm api={api} feed={feed} source="script" target={{ path }} />}
      {value && <Source content={value} />}
      {!value && (!error || isOutage(error)) && <p class="loading">Reading the source …</p>}
    </>
  );
}

const LINE_HEIGHT = 20;
/** A longer line is shown in part. */
const MAX_LINE_LENGTH = 2_000;

function Source({ content: { content, size } }: { content: ScriptContent }) {
  const lines = useMemo(() => content.replace(/\n$/, "").split("\n"), [content]);
  return (
    <>
      <h3>
        Source <span class="note">{byteCount(size)}</span>
      </h3>
      <VirtualList
        class="source"
        role="region"
        aria-label="Source of the script"
        items={lines}
        rowHeight={LINE_HEIGHT}
        row={(line, index) => (
          <div key={index} class="source-line">
            <span class="number" aria-hidden="true">
              {index + 1}
            </span>
            <code>
              {spelledOut(line.slice(0, MAX_LINE_LENGTH))}
              {line.length > MAX_LINE_LENGTH && " …"}
            </code>
          </div>
        )}
      />
    </>
  );
}

function byFolder(scripts: ScriptEntry[], words: string): [string, ScriptEntry[]][] {
  const wanted = words.toLowerCase();
  const folders = new Map<string, ScriptEntry[]>();
  for (const script of scripts) {
    if (!script.path.toLowerCase().includes(wanted)) continue;
    const folder = script.path.slice(0, script.path.lastIndexOf("/")) || "/";
    const known = folders.get(folder);
    if (known) known.push(script);
    else folders.set(folder, [script]);
  }
  return [...folders];
}
