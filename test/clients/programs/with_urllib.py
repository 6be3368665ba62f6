import json, os, urllib.request

RUNS = os.environ["HUB_URL"] + "/api/v1/pipelines/runs"


def ask(path="", data=None, headers={}):
    request = urllib.request.Request(RUNS + path, data, {"Authorization": "Bearer " + os.environ["HUB_KEY"], **headers})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def launch():
    headers = {"Content-Type": "application/json", "Idempotency-Key": "urllib-1"}
    return ask("", json.dumps({"recipe_id": "endless"}).encode(), headers)["run_id"]


run = launch()
print(run)
print(launch())
text, after = "", 0
while not text.endswith("\n"):
    page = ask(f"/{run}/logs?after={after}&wait=5")
    text, after = text + page["chunk"], page["offset"]
print(text, end="")
print(ask(f"/{run}/kill", data=b"")["status"])
