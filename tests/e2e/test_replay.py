"""A replay by a plan on the emulator: what it should cost, a cap, what it cost by the receipts, and the same bytes as before."""

from __future__ import annotations

import json
from typing import Any

from conftest import orders

from local.pipeline import Pipeline

FILES = 6


def show(pipeline: Pipeline, dataset: str, plan: str) -> dict[str, Any]:
    done = pipeline.command("replay", "show", dataset, plan, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(pipeline: Pipeline, dataset: str, plan: str, nano_usd: int, *more: str) -> Any:
    queue = ("--replay-queue", pipeline.queue_url("replay"))
    return pipeline.command("replay", "run", dataset, plan, "--budget", f"{nano_usd / 1e9:.9f}", *queue, *more)


def test_a_plan_is_capped_goes_on_and_says_what_it_cost(pipeline: Pipeline, dataset: str) -> None:
    for n in range(FILES):
        pipeline.upload(dataset, f"{n}.csv", orders(100 * n, 50))
    pipeline.wait_settled(dataset, FILES)
    pipeline.wait_idle()
    planned = pipeline.invoke("replay", {"plan": True, "dataset": dataset})
    plan, nano_usd = planned["plan"], planned["nano_usd"]
    assert planned["objects"] == FILES and nano_usd > 0 and planned["gb_seconds"] > 0

    refused = run(pipeline, dataset, plan, nano_usd // 2)
    assert refused.returncode == 1 and "should cost" in refused.stdout, refused
    assert show(pipeline, dataset, plan)["progress"] is None
    assert run(pipeline, dataset, plan, nano_usd // 2, "--partly").returncode == 0
    pipeline.wait_until(lambda: show(pipeline, dataset, plan)["progress"]["state"] == "capped", "the budget is used up", 120)
    capped = show(pipeline, dataset, plan)["progress"]
    assert 0 < capped["sent"] < FILES and capped["reserved"] == 0

    assert json.loads(pipeline.command("status", dataset, "--json").stdout)["replays"] == {"running": []}
    followed = run(pipeline, dataset, plan, 10 * nano_usd, "--follow")
    assert followed.returncode == 0, followed
    told = [line for line in followed.stdout.splitlines() if line.startswith(("running: ", "done: ")) and " settled (" in line]
    assert told[0].startswith("running: ") and told[-1].startswith(f"done: {FILES} of {FILES} settled (100 %)"), followed.stdout
    assert len(set(told)) == len(told), "a line is told when something has changed"
    shown = show(pipeline, dataset, plan)
    done = shown["progress"]
    assert (done["sent"], done["settled"], done["estimated"]) == (FILES, FILES, nano_usd)
    sheet = json.loads(pipeline.command("cost", dataset, "--json").stdout)
    publishing = shown["plan"]["publishing"]
    assert publishing > 0 and sheet["publishing"] > 0
    assert sheet["replays"]["files"] == FILES and done["spent"] == sheet["replays"]["cost"] + FILES * publishing

    verified = pipeline.command("replay", "verify", dataset, "--sample", "4", "--json")
    assert verified.returncode == 0, verified
    found = json.loads(verified.stdout)
    # The order with id 0 has its file held, and what is held is not chosen.
    assert (found["published"], found["chosen"], found["staged"], found["differences"]) == (FILES - 1, 4, 4, [])
    assert found["files"] >= 4 and found["bytes"] > 0
    print(f"estimated {nano_usd / 1e9:.9f} dollars, spent {done['spent'] / 1e9:.9f}")
