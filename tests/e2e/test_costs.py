"""What invocations say they cost, and what the ledger says that files did: the same money, counted in two places."""

from __future__ import annotations

import json
from typing import Any

from conftest import orders

from local import cost
from local.pipeline import Pipeline, requests

FILES = 4


def costs(pipeline: Pipeline, dataset: str) -> dict[str, Any]:
    done = pipeline.command("cost", dataset, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def metered(pipeline: Pipeline, dataset: str) -> int:
    """What the lines of stage say that the receipts of a dataset come to, in nano-dollars."""
    lines = [line for line in pipeline.summaries(["stage"]) if dataset in line.get("datasets", {})]
    assert all(list(line["datasets"]) == [dataset] for line in lines), "an invocation of several datasets tells only the sum"
    return sum(line.get("receipts_nano_usd", 0) for line in lines)


def test_receipts_in_the_ledger_add_up_to_what_stage_metered(pipeline: Pipeline, dataset: str) -> None:
    for n in range(FILES):
        pipeline.upload(dataset, f"{n}.csv", orders(100 * n, 50))
    pipeline.wait_settled(dataset, FILES)
    pipeline.wait_idle()
    fresh = costs(pipeline, dataset)
    assert fresh["together"]["cost"] == fresh["fresh"]["cost"] == metered(pipeline, dataset) > 0
    assert (fresh["together"]["files"], fresh["together"]["rows"], fresh["unpriced"]) == (FILES, FILES * 50, 0)
    assert {part for part, cost in fresh["parts"].items() if cost} == {"compute", "invocations", "s3", "sqs", "logs"}

    ids = [raw.raw_id for raw in pipeline.status(dataset).raw][:2]
    pipeline.invoke("replay", {"dataset": dataset, "raw_ids": ids})
    pipeline.wait_until(lambda: costs(pipeline, dataset)["replays"]["files"] == 2, "two files were staged again")
    pipeline.wait_idle()
    replayed = costs(pipeline, dataset)
    assert replayed["together"]["cost"] == metered(pipeline, dataset) > fresh["together"]["cost"]
    assert replayed["together"]["cost"] == replayed["fresh"]["cost"] + replayed["replays"]["cost"] + replayed["replaced"]
    shown = pipeline.command("cost", dataset)
    assert shown.returncode == 0 and f"{FILES} files staged" in shown.stdout and "by day landed" in shown.stdout


def test_every_invocation_is_priced_by_part(pipeline: Pipeline, dataset: str) -> None:
    pipeline.upload(dataset, "a.csv", orders(0, 10))
    pipeline.wait_settled(dataset, 1)
    lines = pipeline.summaries()
    for line in lines:
        parts = line["cost_nano_usd"]
        assert line["CostNanoUsd"] == sum(parts.values()) > 0
        assert parts["invocations"] > 0 and parts["logs"] > 0
        assert line.get("receipts_nano_usd", 0) <= line["CostNanoUsd"]
    # The price list read by somebody else comes to the same, but for what each line rounds.
    for service in ("s3", "sqs"):
        items = [item for item in cost.bill(requests(lines), lines) if item.what.startswith(f"{service}:")]
        billed = sum(item.usd or 0 for item in items) * 10**9
        said = sum(line["cost_nano_usd"].get(service, 0) for line in lines)
        assert abs(billed - said) <= len(lines), service
