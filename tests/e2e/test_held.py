"""A held file: found, looked at with any engine, released or rejected, and only then published or never."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from conftest import orders

from local import engines
from local.pipeline import Pipeline

Read = Callable[[], list[tuple[int, float]]]


def bad(first: int, good: int) -> bytes:
    """A file of which most rows are bad, and one looks as if it meant harm."""
    return orders(first, good) + b"<script>alert(1)</script>,1,,2024-05-01T12:00:00Z\n" * 9


def held(pipeline: Pipeline, dataset: str) -> list[dict[str, Any]]:
    done = pipeline.command("held", "list", dataset, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def upload_held(pipeline: Pipeline, dataset: str, name: str, first: int, good: int) -> str:
    """Uploads a file that is held; answers with its raw id."""
    before = pipeline.status(dataset).states["held"]
    pipeline.upload(dataset, name, bad(first, good))
    status = pipeline.wait(dataset, lambda s: s.states["held"] == before + 1, f"{name} is held")
    return next(raw.raw_id for raw in reversed(status.of_source(quote(name))) if raw.state == "held")


def refused(pipeline: Pipeline, *arguments: str) -> str:
    done = pipeline.command("held", *arguments)
    assert done.returncode == 1, done
    return done.stdout


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(row["id"] for row in rows)


def test_a_held_file_is_looked_at_and_released(pipeline: Pipeline, dataset: str, published: Read) -> None:
    pipeline.upload(dataset, "good.csv", orders(1, 3))
    pipeline.wait_settled(dataset, 1)
    raw_id = upload_held(pipeline, dataset, "bad one.csv", 100, 4)
    [listed] = held(pipeline, dataset)
    assert (listed["raw_id"], listed["rows"], listed["quarantined"]) == (raw_id, 4, 9)
    assert raw_id in pipeline.command("held", "list", "--all").stdout

    done = pipeline.command("held", "show", dataset, "bad one.csv", "--json")
    report = json.loads(done.stdout)
    assert (report["verdict"], report["file"], report["coverage"]["rows_accepted"]) == ("hold", "bad one.csv", 4)
    for engine, rows in engines.rows_at(pipeline.endpoint, report["table"]).items():
        assert ids(rows) == [100, 101, 102, 103], engine
        assert {row["_raw_id"] for row in rows} == {raw_id}
    assert published() == [(n, 1) for n in (1, 2, 3)]
    markdown = pipeline.command("held", "show", dataset, raw_id).stdout
    assert markdown.startswith(f"# {dataset} / bad one.csv\n\n**Held") and f"iceberg_scan('{report['table']}')" in markdown
    [page] = [key for key in pipeline.keys(f"staging/{dataset}/{raw_id}/") if key.endswith("/report.html")]
    assert pipeline.command("held", "show", dataset, raw_id, "--html").stdout.encode() == pipeline.read(page)
    assert b"<script" not in pipeline.read(page)

    # The very command that the report gives.
    [release] = [c for step in report["next"] for c in step["commands"] if c.startswith("sluicegate held release ")]
    done = pipeline.command(*release.split()[1:-1], "known outage")
    assert (done.returncode, done.stdout) == (0, f"{raw_id}: released by ann: known outage\n"), done
    pipeline.wait(dataset, lambda s: s.states["published"] == 2, "the release is published")
    everything = [*((n, 1) for n in (1, 2, 3)), *((n, 1) for n in range(100, 104))]
    assert published() == everything
    for engine, rows in engines.rows_at(pipeline.endpoint, engines.root(pipeline.stack.lake_bucket_name, dataset)).items():
        assert ids(rows) == [n for n, _ in everything], engine
    assert "is decided: released by ann: known outage" in refused(pipeline, "reject", dataset, raw_id, "--why", "no")
    assert held(pipeline, dataset) == []
    told = pipeline.command("report", dataset, raw_id)
    assert told.returncode == 0 and "then released by ann: known outage" in told.stdout


def test_a_rejected_file_is_never_published(pipeline: Pipeline, dataset: str, published: Read) -> None:
    pipeline.upload(dataset, "good.csv", orders(1, 3))
    pipeline.wait_settled(dataset, 1)
    raw_id = upload_held(pipeline, dataset, "bad.csv", 100, 4)
    done = pipeline.command("held", "reject", dataset, raw_id, "--why", "test data", "--by", "bob")
    assert done.returncode == 0, done
    status = pipeline.wait(dataset, lambda s: s.states["rejected"] == 1, "the rejection is recorded")
    [raw] = status.of_source("bad.csv")
    assert raw.reason == "rejected by bob: test data"
    assert "is decided: rejected by bob" in refused(pipeline, "release", dataset, raw_id, "--why", "yes")
    # The message that staged it comes once more.
    message = {"v": 1, "dataset": dataset, "source": "bad.csv", "raw_id": raw_id, "epoch": 0, "reason": "fresh", "hop": 0}
    pipeline.send("stage", [json.dumps(message)], dataset)
    pipeline.wait_idle()
    assert published() == [(n, 1) for n in (1, 2, 3)]
    assert pipeline.status(dataset).states["rejected"] == 1


def test_a_release_below_a_newer_version_is_refused(pipeline: Pipeline, dataset: str, published: Read) -> None:
    raw_id = upload_held(pipeline, dataset, "a.csv", 100, 4)
    assert "is published, not held" not in pipeline.command("held", "show", dataset, raw_id).stdout
    pipeline.upload(dataset, "a.csv", orders(1, 3))
    pipeline.wait(dataset, lambda s: s.states["published"] == 1, "the newer version is published")
    newer = pipeline.status(dataset).published("a.csv").raw_id
    refusal = refused(pipeline, "release", dataset, raw_id, "--why", "yes")
    assert "a newer version of a.csv is published" in refusal and newer in refusal
    assert "is published, not held" in refused(pipeline, "release", dataset, newer, "--why", "yes")
    assert "nothing is staged of" in refused(pipeline, "show", dataset, raw_id[:17] + "0" * 32)
    pipeline.wait_idle()
    assert published() == [(n, 1) for n in (1, 2, 3)]
    assert [listed["raw_id"] for listed in held(pipeline, dataset)] == [raw_id]
