"""The example of the demo, judged object by object: nothing lost, nothing bad published, every reason told."""

from __future__ import annotations

import json

import pytest

from local import demo, engines, example
from local.pipeline import Pipeline, Status, Upload, requests

FILES = {path.name: path for path in [*example.in_order(), example.LATE]}


@pytest.fixture(scope="module")
def january(pipeline: Pipeline) -> tuple[Status, list[Upload]]:
    return demo.run(pipeline)


def test_every_figure_is_what_the_files_say(january: tuple[Status, list[Upload]]) -> None:
    assert demo.unexpected(january[0], {}) == []


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_engines_agree_with_the_csv(pipeline: Pipeline, january: object, engine: str) -> None:
    read = engines.ENGINES[engine](pipeline.endpoint, pipeline.stack.lake_bucket_name, example.DATASET)
    assert read == example.expected()


def test_the_snippet_of_the_demo_reads_the_table(pipeline: Pipeline, january: object, capsys: pytest.CaptureFixture[str]) -> None:
    text = engines.snippet(pipeline.endpoint, pipeline.stack.lake_bucket_name, example.DATASET)
    sql, python = text.split("\n\n")
    want = example.expected()
    # The connection has the extensions loaded and a secret: both again, but for the line that fetches extensions.
    with engines.duckdb_connection(pipeline.endpoint) as connection:
        connection.execute("DROP SECRET __default_s3")
        comment, install, *statements = sql.split("\n")
        assert comment.startswith("--") and install.startswith("INSTALL")
        assert connection.execute("\n".join(statements)).fetchall() == [(1, want.rows, want.distance)]
    exec(python, {})
    assert capsys.readouterr().out.split() == [str(want.rows)]


def test_the_profile_is_the_published_rows_though_no_data_is_read(pipeline: Pipeline, january: tuple[Status, list[Upload]]) -> None:
    merged = json.loads(pipeline.command("profile", example.DATASET, "--json").stdout)
    want, columns = example.expected(), {column["path"]: column for column in merged["profile"]["columns"]}
    assert (merged["profile"]["rows"], merged["without"]) == (want.rows, 0)
    assert float(columns["distance"]["sum"]) == want.distance
    assert columns["dep_time"]["nulls"] == want.null_dep_time
    assert sorted(value["value"] for value in columns["origin"]["top"]["values"]) == ["EWR", "JFK", "LGA"]


def test_raw_is_kept_byte_for_byte(pipeline: Pipeline, january: tuple[Status, list[Upload]]) -> None:
    for raw in january[0].raw:
        assert pipeline.raw_bytes(example.DATASET, raw) == FILES[raw.source].read_bytes(), raw.source


def test_bad_rows_are_quarantined_as_they_came(pipeline: Pipeline, january: tuple[Status, list[Upload]]) -> None:
    raw = january[0].published(example.BAD.name)
    original, planted = example.BAD.read_bytes(), example.planted()
    assert raw.quarantined == len(planted)
    keys = pipeline.keys(f"quarantine/{example.DATASET}/{raw.raw_id}/")
    kept = b"".join(pipeline.read(key).split(b"\n", 1)[1] for key in sorted(keys) if key.endswith(".rows"))
    header = original.split(b"\n", 1)[0]
    assert all(pipeline.read(key).startswith(header + b"\n") for key in keys if key.endswith(".rows"))
    assert kept == b"".join(entry["bytes"].encode() for entry in planted)

    reasons = [json.loads(line) for key in sorted(keys) if key.endswith(".jsonl") for line in pipeline.read(key).splitlines()]
    faults = [(r["row"], fault["column"], fault["rule"]) for r in reasons for fault in r["faults"]]
    assert faults == [(p["row"], p["column"], p["rule"]) for p in planted]
    for reason, entry in zip(reasons, planted):
        assert original[reason["offset"] :].startswith(entry["bytes"].encode())
        assert len(entry["bytes"].rstrip("\n")) == reason["length"]
        assert all(fault["reason"] for fault in reason["faults"])


def test_no_other_file_has_quarantined_rows(pipeline: Pipeline, january: tuple[Status, list[Upload]]) -> None:
    bad = january[0].published(example.BAD.name).raw_id
    assert {key.split("/")[2] for key in pipeline.keys(f"quarantine/{example.DATASET}/")} == {bad}


def test_a_late_file_is_published_and_counted_as_a_restatement(january: tuple[Status, list[Upload]]) -> None:
    status, late = january[0], january[0].published(example.LATE.name)
    # One data file for each day in UTC that the carrier's flights of 5 January leave on.
    days = {line.rsplit(b",", 1)[1][:10] for line in example.LATE.read_bytes().splitlines()[1:]}
    assert (late.late_files, late.late_rows) == (len(days), example.rows_in(example.LATE))
    assert [raw.source for raw in status.raw if raw.late_files] == [example.LATE.name]


def test_what_is_no_csv_is_rejected_with_a_reason(january: tuple[Status, list[Upload]]) -> None:
    [rejected] = [raw for raw in january[0].raw if raw.state == "rejected"]
    assert rejected.source == example.NOT_CSV.name
    assert rejected.reason
    assert (rejected.rows, rejected.published_at) == (0, None)


def test_nothing_ends_in_a_dead_letter_queue(pipeline: Pipeline, january: object) -> None:
    pipeline.wait_idle()
    assert pipeline.given_up() == 0


def test_every_invocation_says_what_it_did(pipeline: Pipeline, january: object) -> None:
    summaries = pipeline.summaries()
    assert {summary["Function"] for summary in summaries} >= {"land", "stage", "promote"}
    assert all("request_id" in summary and summary["Duration"] >= 0 for summary in summaries)
    made = requests(summaries)
    # The picture and each of the files: copied once, and swapped into view with far fewer pointers than files.
    assert made["s3:CopyObject"] >= len(FILES)
    assert sum(summary.get("FilesPublished", 0) for summary in summaries) >= len(FILES) - 1
