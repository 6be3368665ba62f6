set -eu
runs=$HUB_URL/api/v1/pipelines/runs
ask() { wget -q -O - --header "Authorization: Bearer $HUB_KEY" "$@"; }
field() { printf '%s\n' "$(sed -n 's/.*"'"$1"'": *"\([^"]*\)".*/\1/p')"; }
launch() {
  ask --header "Idempotency-Key: wget-1" --header "Content-Type: application/json" \
    --post-data '{"recipe_id": "endless"}' "$runs" | field run_id
}

run=$(launch)
echo "$run"
launch
text=
while [ -z "$text" ]; do
  text=$(ask --header "Accept: text/plain" "$runs/$run/logs?after=0&wait=5")
done
echo "$text"
ask --post-data '' "$runs/$run/kill" | field status
