"""A table's past from the command line: its snapshots, what changed since one, an older state restored, and what goes with age."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Callable
from typing import Any

import pytest
from conftest import orders

from local import engines
from local.pipeline import Pipeline

Rows = list[tuple[int, float]]
Read = Callable[[], Rows]

FIRST: Rows = [(1, 1), (2, 1), (3, 1)]
SECOND: Rows = [*FIRST, (100, 1), (101, 1)]
THIRD: Rows = [(1, 7), (2, 7), *SECOND[3:]]


@pytest.fixture
def past(pipeline: Pipeline, dataset: str) -> str:
    """A dataset of three snapshots: a file, another of another day, and a correction of the first with fewer rows."""
    files = [("a.csv", orders(1, 3)), ("b.csv", orders(100, 2, day="2024-05-02")), ("a.csv", orders(1, 2, amount=7))]
    for number, (name, body) in enumerate(files, 1):
        pipeline.upload(dataset, name, body)
        pipeline.wait(dataset, lambda s: s.number == number, f"snapshot {number} is published")
    pipeline.wait_idle()
    return dataset


def told(pipeline: Pipeline, *arguments: str) -> str:
    done = pipeline.command(*arguments)
    assert done.returncode == 0, done
    return done.stdout


def parsed(pipeline: Pipeline, *arguments: str) -> Any:
    return json.loads(told(pipeline, *arguments, "--json"))


def listed(pipeline: Pipeline, dataset: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told(pipeline, "snapshot", "list", dataset, "--json").splitlines()]


def roll_back(pipeline: Pipeline, dataset: str, to: int, *more: str) -> Any:
    return parsed(pipeline, "snapshot", "rollback", dataset, "--to", str(to), "--why", "a bad deploy", "--yes", *more)


def refused(pipeline: Pipeline, code: int, *arguments: str) -> str:
    """What a command says that exits with `code`."""
    done = pipeline.command(*arguments)
    assert done.returncode == code, done
    return done.stdout if code == 1 else done.stderr


def by_duckdb(pipeline: Pipeline, dataset: str) -> Rows:
    rows = engines.rows_by_duckdb(pipeline.endpoint, pipeline.stack.lake_bucket_name, dataset)
    return sorted((row["id"], row["amount"]) for row in rows)


def test_the_snapshots_are_listed_and_shown(pipeline: Pipeline, past: str) -> None:
    snapshots = listed(pipeline, past)
    assert [s["number"] for s in snapshots] == [3, 2, 1]
    assert [s["id"] for s in reversed(snapshots)] == engines.snapshots(pipeline.endpoint, pipeline.stack.lake_bucket_name, past)
    assert [s["operation"] for s in snapshots] == ["overwrite", "append", "append"]
    assert [s["rows"] for s in snapshots] == [
        {"added": 2, "removed": 3, "total": 4},
        {"added": 2, "removed": 0, "total": 5},
        {"added": 3, "removed": 0, "total": 3},
    ]
    assert [s["files"]["total"] for s in snapshots] == [2, 2, 1]
    assert snapshots[0]["bytes"]["total"] == sum(s["bytes"]["added"] - s["bytes"]["removed"] for s in snapshots) > 0
    head, newest, *_ = told(pipeline, "snapshot", "list", past).splitlines()
    assert head.split()[:4] == ["number", "id", "time", "operation"]
    assert newest.split()[:2] == ["3", str(snapshots[0]["id"])] and newest.endswith("publish")

    by_number = parsed(pipeline, "snapshot", "show", past, "3")
    assert by_number == parsed(pipeline, "snapshot", "show", past, str(snapshots[0]["id"]))
    [change] = by_number["changes"]
    assert (change["change"], change["reasons"], change["rows_added"], change["rows_removed"]) == ("restated", ["correction"], 2, 3)
    versions = {raw.raw_id for raw in pipeline.status(past).of_source("a.csv")}
    assert set(change["raw_ids"]) == versions and len(versions) == 2
    assert "restated  correction  rows +2 -3  2 raw ids\n" in told(pipeline, "snapshot", "show", past, "3")

    # The metadata that it names is the table as it was then, and its SQL reads it so.
    second = parsed(pipeline, "snapshot", "show", past, "2")
    assert second["metadata"].rpartition("/")[2].startswith("00002-")
    rows = engines.StaticTable.from_metadata(second["metadata"], engines.properties(pipeline.endpoint)).scan().to_arrow()
    assert sorted(zip(rows["id"].to_pylist(), rows["amount"].to_pylist())) == SECOND
    with engines.duckdb_connection(pipeline.endpoint) as connection:
        assert sorted(connection.execute(second["duckdb"].replace("*", "id, amount", 1)).fetchall()) == SECOND
    assert second["duckdb"] in told(pipeline, "snapshot", "show", past, "2")


def test_what_changed_is_told_by_partition(pipeline: Pipeline, past: str) -> None:
    def changes(since: int) -> tuple[list[int], int, dict[str, tuple[str, list[str], int, int]]]:
        report = parsed(pipeline, "changes", past, "--since", str(since))
        partitions = {
            c["partition"][-10:]: (c["change"], c["reasons"], c["rows_added"], c["rows_removed"]) for c in report["partitions"]
        }
        return [s["number"] for s in report["snapshots"]], report["next"], partitions

    corrected = ("restated", ["correction"], 2, 3)
    opened = ("opened", [], 2, 0)
    assert changes(1) == ([2, 3], 3, {"2024-05-01": corrected, "2024-05-02": opened})
    assert changes(2) == ([3], 3, {"2024-05-01": corrected})
    assert changes(3) == ([], 3, {})
    assert changes(listed(pipeline, past)[1]["id"]) == changes(2)
    said = told(pipeline, "changes", past, "--since", "1")
    assert "came 2, 3\n" in said and "2024-05-02  opened" in said and said.endswith("--since 3\n")
    assert "nothing changed since snapshot 3\n" in told(pipeline, "changes", past, "--since", "3")


def test_an_older_state_is_restored_and_a_replay_brings_the_newer_back(
    pipeline: Pipeline, dataset: str, past: str, published: Read
) -> None:
    newer = pipeline.status(past).published("a.csv").raw_id
    other = pipeline.status(past).published("b.csv").raw_id
    oldest = listed(pipeline, past)[-1]["id"]
    assert published() == THIRD
    # Nobody is there to ask.
    said = refused(pipeline, 2, "snapshot", "rollback", past, "--to", "1", "--why", "a bad deploy")
    assert "2 withdrawn, 1 restored; rows +3 -4" in said and "--yes" in said
    assert pipeline.status(past).number == 3

    done = roll_back(pipeline, past, oldest)
    assert (done["number"], done["to"], set(done["withdrawn"])) == (4, 1, {newer, other})
    assert (len(done["restored"]), done["rows_removed"], done["rows_added"]) == (1, 4, 3)
    assert published() == by_duckdb(pipeline, past) == FIRST
    assert listed(pipeline, past)[0]["rollback"] == {"to": 1, "by": "ann", "why": "a bad deploy"}
    assert "rollback to 1 by ann: a bad deploy" in told(pipeline, "snapshot", "list", past)
    changes = parsed(pipeline, "changes", past, "--since", "3")["partitions"]
    assert [(c["change"], c["reasons"]) for c in changes] == [("restated", ["rollback"])] * 2
    status = pipeline.status(past)
    assert (status.states["withdrawn"], status.states["published"]) == (2, 1)

    # The message that staged it comes once more: that is no reason to come back.
    message = {"v": 1, "dataset": past, "source": "b.csv", "raw_id": other, "epoch": 0, "reason": "fresh", "hop": 0}
    pipeline.send("stage", [json.dumps(message)], past)
    pipeline.wait_idle()
    assert (pipeline.status(past).number, published()) == (4, FIRST)

    assert pipeline.invoke("replay", {"dataset": past, "raw_ids": done["withdrawn"]})["sent"] == 2
    pipeline.wait(past, lambda s: not s.states["withdrawn"] and not s.unsettled, "what was withdrawn is published again")
    pipeline.wait_idle()
    assert published() == by_duckdb(pipeline, past) == THIRD


def test_a_person_at_a_terminal_is_asked(pipeline: Pipeline, past: str, published: Read) -> None:
    def answer(text: bytes) -> tuple[int, str, str]:
        here, there = pty.openpty()
        try:
            os.write(here, text)
            done = pipeline.command("snapshot", "rollback", past, "--to", "2", "--why", "no \x1b[2J", stdin=there)
        finally:
            os.close(here)
            os.close(there)
        return done.returncode, done.stdout, done.stderr

    code, said, asked = answer(b"\n")
    assert (code, said, pipeline.status(past).number) == (1, "nothing was changed\n", 3)
    assert "[y/N]" in asked
    code, said, _ = answer(b"y\n")
    assert code == 0 and "snapshot 4 publishes what snapshot 2 did" in said and "replay" in said
    assert published() == SECOND
    # What a person wrote is printed so that it does nothing to the terminal.
    snapshots = told(pipeline, "snapshot", "list", past)
    assert "by ann: no \\u{1b}[2J" in snapshots and "\x1b" not in snapshots


def test_what_cannot_be_is_refused(pipeline: Pipeline, dataset: str, past: str) -> None:
    def rollback(to: str, why: str = "why", *more: str) -> tuple[str, ...]:
        return ("snapshot", "rollback", past, "--to", to, "--why", why, "--yes", *more)

    assert "snapshot 99 is not retained; the oldest that is, is 1" in refused(pipeline, 1, *rollback("99"))
    assert "snapshot 3 is the present one" in refused(pipeline, 1, *rollback("3"))
    assert "say why" in refused(pipeline, 2, *rollback("1", " "))
    assert "say why, and who" in refused(pipeline, 2, *rollback("1", "why", "--by", ""))
    assert "invalid value 'first'" in refused(pipeline, 2, *rollback("first"))
    assert "snapshot 99 is not retained" in refused(pipeline, 1, "snapshot", "show", past, "99")
    assert "there was no snapshot 99; the present one is 3" in refused(pipeline, 1, "changes", past, "--since", "99")
    assert "--since" in refused(pipeline, 2, "changes", past)
    assert "'0'" in refused(pipeline, 2, "snapshot", "expire", past, "--keep", "0", "--older-than", "P1D")
    assert "a day at least" in refused(pipeline, 2, "snapshot", "collect", past, "--grace", "23 hours")
    assert refused(pipeline, 2, "snapshot", "collect", past, "--grace", "soon")
    assert refused(pipeline, 2, "snapshot", "list", "No Dataset")
    assert pipeline.status(past).number == 3

    empty = ("no_such_dataset", "--to", "1", "--why", "why", "--yes")
    assert told(pipeline, "snapshot", "list", empty[0]) == "nothing is published\n"
    for command in (("snapshot", "rollback", *empty), ("changes", empty[0], "--since", "0"), ("snapshot", "show", empty[0], "1")):
        assert refused(pipeline, 1, *command) == "refused: nothing is published\n"

    # What a subscriber needs was collected while it was away.
    first = parsed(pipeline, "snapshot", "show", past, "1")["metadata"]
    [snapshot] = json.loads(pipeline.read(first.split("/", 3)[3]))["snapshots"]
    lost = f"tables/{past}/metadata/{snapshot['summary']['sluicegate.changes']}"
    pipeline.s3.delete_object(Bucket=pipeline.stack.lake_bucket_name, Key=lost)
    assert "read the table anew" in refused(pipeline, 1, "changes", past, "--since", "0")
    assert parsed(pipeline, "changes", past, "--since", "1")["next"] == 3


def test_what_is_young_is_neither_expired_nor_collected(pipeline: Pipeline, past: str, published: Read) -> None:
    expire = ("snapshot", "expire", past, "--keep", "1", "--older-than")
    collect = ("snapshot", "collect", past, "--grace", "P1D")
    before = pipeline.keys(f"tables/{past}/")
    assert told(pipeline, *expire, "30 days") == f"{past}: nothing to expire\n"
    for more in (("--dry-run",), ()):
        assert told(pipeline, *collect, *more) == f"{past}: nothing to collect\n"
    assert pipeline.keys(f"tables/{past}/") == before

    # What has expired can be read and restored no more, but what changed since is still told.
    assert told(pipeline, *expire, "PT0S") == f"{past}: 2 snapshots, 1 to 2, are no longer retained\n"
    assert [s["number"] for s in listed(pipeline, past)] == [3]
    assert told(pipeline, *collect) == f"{past}: nothing to collect\n"
    assert published() == by_duckdb(pipeline, past) == THIRD
    assert "is not retained; the oldest that is, is 3" in refused(
        pipeline, 1, "snapshot", "rollback", past, "--to", "1", "--why", "why", "--yes"
    )
    since_first = parsed(pipeline, "changes", past, "--since", "1")
    assert ([s["number"] for s in since_first["snapshots"]], since_first["next"]) == ([2, 3], 3)
    # The expiry has a number, and no snapshot.
    pipeline.upload(past, "c.csv", orders(200, 1))
    pipeline.wait(past, lambda s: s.number == 5, "the next snapshot is published")
    since_third = parsed(pipeline, "changes", past, "--since", "3")
    assert ([s["number"] for s in since_third["snapshots"]], since_third["next"]) == ([5], 5)


def test_status_prints_a_name_so_that_it_does_nothing(pipeline: Pipeline, dataset: str) -> None:
    pipeline.upload(dataset, "bad\u202e.csv", b"id\n")
    pipeline.wait_settled(dataset, 1)
    said = told(pipeline, "status", dataset)
    assert "bad\\u{202e}.csv" in said and "\u202e" not in said
