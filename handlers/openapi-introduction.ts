/** The title of the API document. */
export const TITLE = "Enterprise API — Pipelines & Scripts";
/** The version of the product, as in package.json. */
export const VERSION = "1.0.0";
/** What a reader needs before the operations, in Markdown. */
export const INTRODUCTION = `Launch curated pipelines and allow-listed \`.sh\` scripts on the operator's Hub host, follow their logs, and stop them.

### Authentication

Send \`Authorization: Bearer <key>\`; the operator issues keys. Each operation names the scope it needs in \`x-required-scopes\`; the scope \`*\` grants them all. A Hub without keys serves everyone and reports it with the header \`Hub-Auth: dev\`.

### Retries

Send an \`Idempotency-Key\` with a launch: any string that you choose for this launch, such as \`my-job-2026-05-15-001\`. For an hour the same key and body give the same run (\`Idempotent-Replayed: true\`), however often you retry, and from any place; the same key with another body is answered with 422. A launch that failed can be tried again with its key.

Try again after a lost connection and after 429, 500, 502, 503 and 504; wait as long as \`Retry-After\` says, if the answer has it. Other errors do not change until you change the request.

### Waiting and trying out

\`Prefer: wait=30\` with a launch, or with a run's record, delays the answer until the run ends, for 60 seconds at most; \`Preference-Applied\` confirms it. A \`callback_url\` receives the final record, signed. \`POST …/previews\` takes the body of a launch and answers with the command, folder, log and limits, and whether the run would start now; nothing is started.

### Tailing a log

Ask for \`after=0\`, print \`chunk\`, pass \`offset\` as the next \`after\`. With \`wait=20\` the answer comes as soon as there are new bytes, so the loop needs no sleep; give the client a longer timeout. After a lost connection ask for the same \`after\` again: no byte is missed or repeated. A run has ended when its \`ended_at\` is set. Its log is complete then, so one more read brings the last lines:

\`\`\`python
def follow(client, run_url):
    offset, ended = 0, False
    while True:
        query = {"after": offset, "max_bytes": 65536, "wait": 20}
        page = client.get(f"{run_url}/logs", params=query).json()
        print(page["chunk"], end="", flush=True)
        offset = page["offset"]
        if page["more"]:
            continue
        if ended:
            return client.get(run_url).json()
        ended = client.get(run_url).json()["ended_at"] is not None
\`\`\`

### How a run ended

\`status\` says it in a word, \`status_reason\` in a sentence, \`exit_code\` as a number. \`unknown\` means that nothing could see how the run ended.

### Stopping

\`POST …/kill\` sends SIGTERM to every process of the run; \`{"signal": "SIGINT", "grace_seconds": 10}\` sends SIGINT, and SIGKILL after ten seconds. \`ended_at\` stays null until every process of the run has ended. A second kill sends no signal, unless it asks for more (SIGKILL, or a grace period). For a run that ended by itself the answer is 409.

### Errors

Every error is \`application/problem+json\` (RFC 9457). Branch on \`code\`, show \`detail\`, and send \`request_id\` to the operator; \`errors\` names each invalid field.`;
