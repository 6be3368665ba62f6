set -eu
runs=$HUB_URL/api/v1/pipelines/runs
ask() { curl -sS --fail-with-body -H "Authorization: Bearer $HUB_KEY" "$@"; }
field() { printf '%s\n' "$(sed -n 's/.*"'"$1"'": *"\([^"]*\)".*/\1/p')"; }
launch() { ask -H "Idempotency-Key: curl-1" --json '{"recipe_id": "endless"}' "$runs" | field run_id; }

run=$(launch)
echo "$run"
launch
after=0 text=
while [ -z "$text" ]; do
  text=$(ask -D "$HUB_TMP/head" -H "Accept: text/plain" "$runs/$run/logs?after=$after&wait=5")
  after=$(tr 'A-Z' 'a-z' <"$HUB_TMP/head" | sed -n 's/^hub-log-offset: *\([0-9]*\).*/\1/p')
done
echo "$text"
ask -d '' "$runs/$run/kill" | field status
