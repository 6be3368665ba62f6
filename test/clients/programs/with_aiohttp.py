import asyncio, os
import aiohttp

RUNS = os.environ["HUB_URL"] + "/api/v1/pipelines/runs"


async def main():
    headers = {"Authorization": "Bearer " + os.environ["HUB_KEY"]}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as session:

        async def launch():
            key = {"Idempotency-Key": "aiohttp-1"}
            async with session.post(RUNS, json={"recipe_id": "endless"}, headers=key) as answer:
                return (await answer.json())["run_id"]

        run = await launch()
        print(run)
        print(await launch())
        text, after = "", 0
        while not text.endswith("\n"):
            async with session.get(f"{RUNS}/{run}/logs", params={"after": after, "wait": 5}) as answer:
                page = await answer.json()
            text, after = text + page["chunk"], page["offset"]
        print(text, end="")
        async with session.post(f"{RUNS}/{run}/kill") as answer:
            print((await answer.json())["status"])


asyncio.run(main())
