import { useLayoutEffect, useRef } from "preact/hooks";

import type { LaunchPreview } from "../../host-agent/protocol/launch.ts";
import { duration } from "../client/units.ts";
import { Fact } from "./fact.tsx";
import { spelledOut } from "./visible-text.ts";

/** What a launch would start. Takes the focus, so that screen readers read it and it is visible. */
export function Preview({ preview }: { preview: LaunchPreview }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => {
    heading.current!.closest("section")!.scrollIntoView({ block: "nearest" });
    heading.current!.focus({ preventScroll: true });
  }, [preview]);
  const { limits, environment } = preview;
  return (
    <section class={`preview ${preview.would_start ? "" : "refused"}`} aria-labelledby="preview-title">
      <h3 id="preview-title" ref={heading} tabIndex={-1}>
        {preview.would_start ? "Dry run: it would start now" : "Dry run: it would not start now"}
      </h3>
      {preview.reason !== null && <p>{spelledOut(preview.reason)}</p>}
      <dl class="facts">
        <Fact name="Command" width="full">
          <code>{spelledOut(preview.cmd)}</code>
        </Fact>
        <Fact name="Folder" width="full">
          <code>{spelledOut(preview.cwd)}</code>
        </Fact>
        <Fact name="Log file" width="full">
          <code>{spelledOut(preview.log_path_pattern)}</code>
        </Fact>
        <Fact name="Environment" width="full">
          <code>{spelledOut(environment.join(" "))}</code>
        </Fact>
        <Fact name="Stopped after">
          {limits.timeout_seconds === null ? "no limit" : duration(limits.timeout_seconds)}
        </Fact>
        {limits.running !== null && (
          <Fact name="Runs of this recipe">{runsOf(limits.running, limits.max_running)}</Fact>
        )}
        <Fact name="Runs on the host">{runsOf(limits.host_running, limits.host_max_running)}</Fact>
        <Fact name="Terminal">{preview.terminal ? "yes" : "no"}</Fact>
        {preview.spec_sha256 !== null && (
          <Fact name="SHA-256 now" width="full">
            <code>{preview.spec_sha256}</code>
          </Fact>
        )}
      </dl>
    </section>
  );
}

function runsOf(running: number, most: number | null): string {
  return most === null ? `${running} now` : `${running} now, at most ${most}`;
}
