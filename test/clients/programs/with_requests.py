import os
import requests

RUNS = os.environ["HUB_URL"] + "/api/v1/pipelines/runs"
client = requests.Session()
client.headers["Authorization"] = "Bearer " + os.environ["HUB_KEY"]


def checked(answer):
    answer.raise_for_status()
    return answer.json()


def launch():
    headers = {"Idempotency-Key": "requests-1"}
    return checked(client.post(RUNS, json={"recipe_id": "endless"}, headers=headers, timeout=30))["run_id"]


run = launch()
print(run)
print(launch())
text, after = "", 0
while not text.endswith("\n"):
    page = checked(client.get(f"{RUNS}/{run}/logs", params={"after": after, "wait": 5}, timeout=30))
    text, after = text + page["chunk"], page["offset"]
print(text, end="")
print(checked(client.post(f"{RUNS}/{run}/kill", timeout=30))["status"])
