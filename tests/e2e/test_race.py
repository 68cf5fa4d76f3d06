"""The race for the pointer: processes that promote into one dataset at once, some of them killed with work in hand.

What promote has to do is staged beforehand and withheld from the deployed function; every message is there twice, and some
sources have several versions. Then operating-system processes (tests/examples/promoter.rs) take it from the real queue. The
emulator's conditional writes are atomic, so a swap that forgot its condition would lose what others published.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import orders

from local import engines
from local.build import build
from local.emulator import Emulator
from local.pipeline import Pipeline, Status

ROWS = 5
RETAINED = 200
LOGGED = 100
# A promoter ends by itself when nobody has ended it and its queue has been empty for so long.
ORPHANED_SECONDS = 60


@dataclass(frozen=True)
class Race:
    processes: int
    sources: int
    # What a killed process had in hand comes back after this.
    visibility: int
    # Between two kills at most.
    pause: float
    seconds: float

    @property
    def kills(self) -> int:
        return self.processes // 3

    def versions(self, source: int) -> int:
        """Every third source is uploaded twice, every sixth three times."""
        return 1 + (source % 3 == 0) + (source % 6 == 0)

    @property
    def raw_objects(self) -> int:
        return sum(map(self.versions, range(self.sources)))


SHORT = Race(processes=8, sources=40, visibility=6, pause=0.3, seconds=60)
LONG = Race(processes=32, sources=320, visibility=60, pause=4.0, seconds=900)


class Promoter:
    """One process; its lines go to a file, so that nothing is lost when it is killed."""

    def __init__(self, program: Path, environment: dict[str, str], lines: Path) -> None:
        self.lines = lines
        with lines.open("wb") as out:
            self.process = subprocess.Popen([program, str(ORPHANED_SECONDS)], env=environment, stdout=out, stderr=subprocess.STDOUT)

    def said(self) -> list[dict[str, Any]]:
        whole = [line for line in self.lines.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        return [json.loads(line) for line in whole]

    @property
    def has_work(self) -> bool:
        return any("took" in line for line in self.said()[-1:])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Promoters:
    """All processes there were; as many as the race wants live."""

    program: Path
    environment: dict[str, str]
    folder: Path
    living: list[Promoter] = field(default_factory=list)
    dead: list[Promoter] = field(default_factory=list)

    def start(self) -> None:
        lines = self.folder / f"{len(self.living) + len(self.dead)}.jsonl"
        self.living.append(Promoter(self.program, self.environment, lines))

    def kill(self, promoter: Promoter) -> None:
        promoter.kill()
        self.living.remove(promoter)
        self.dead.append(promoter)

    def died_by_themselves(self) -> list[str]:
        return [p.lines.read_text() for p in self.living if p.process.poll() is not None]

    def answers(self) -> list[dict[str, Any]]:
        """The summary line of every batch that was answered."""
        return [line for p in (*self.living, *self.dead) for line in p.said() if "took" not in line]


@pytest.fixture(scope="module")
def program() -> Path:
    return build(with_tests=True).example("promoter")


@contextmanager
def promotion_withheld(pipeline: Pipeline) -> Iterator[None]:
    """The deployed promote gets no messages inside the block."""
    name = pipeline.stack.promote_function_name
    mappings = pipeline.functions.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    [mapping] = [mapping for mapping in mappings if mapping["EventSourceArn"].endswith("-promote")]
    pipeline.functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        yield
    finally:
        pipeline.functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


def stage(pipeline: Pipeline, dataset: str, race: Race) -> None:
    """Uploads everything and waits until it waits for promote, each message twice."""
    for version in range(1, 4):
        sources = [source for source in range(race.sources) if race.versions(source) >= version]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: pipeline.upload(dataset, f"{n}.csv", orders(10 * n + 1, ROWS, version)), sources))
    wanted = race.raw_objects
    pipeline.wait_until(lambda: pipeline.depths()["promote"] >= wanted, f"{wanted} proposals are staged")
    source_of = {raw.raw_id: raw.source for raw in pipeline.status(dataset).raw}
    again = []
    for key in pipeline.keys(f"staging/{dataset}/"):
        *_, raw_id, order, name = key.split("/")
        if name == "proposal.json":
            again.append(json.dumps({"v": 1, "dataset": dataset, "source": source_of[raw_id], "raw_id": raw_id, "order": order}))
    assert len(again) == wanted
    pipeline.send("promote", again, dataset)


def compete(pipeline: Pipeline, promoters: Promoters, race: Race) -> int:
    """Until nothing is left to promote; answers with how many processes died with work in hand."""
    dice, died_at_work = random.Random(2013), 0
    deadline = time.monotonic() + race.seconds
    for _ in range(race.processes):
        promoters.start()
    while died_at_work < race.kills and time.monotonic() < deadline and pipeline.depths()["promote"]:
        time.sleep(dice.uniform(0.0, race.pause))
        if at_work := [p for p in promoters.living if p.has_work]:
            victim = dice.choice(at_work)
            promoters.kill(victim)
            # It may have answered at the last moment.
            died_at_work += victim.has_work
            promoters.start()

    def done() -> bool:
        assert promoters.died_by_themselves() == []
        return not pipeline.depths()["promote"] and not any(p.has_work for p in promoters.living)

    pipeline.wait_until(done, "everything is promoted", deadline - time.monotonic())
    return died_at_work


@pytest.mark.parametrize("race", [pytest.param(SHORT, id="8"), pytest.param(LONG, id="32", marks=pytest.mark.long)])
def test_processes_that_race_and_die_lose_nothing(
    aws: Emulator, pipeline: Pipeline, dataset: str, program: Path, tmp_path: Path, race: Race
) -> None:
    environment = {
        **{name: value for name, value in aws.environment().items() if name.startswith("AWS_")},
        "PATH": os.environ.get("PATH", ""),
        "SLUICEGATE_LAKE_BUCKET": pipeline.stack.lake_bucket_name,
        "SLUICEGATE_PROMOTE_QUEUE_URL": pipeline.queue_url("promote"),
    }
    promoters = Promoters(program, environment, tmp_path)
    pipeline.wait_idle()
    with promotion_withheld(pipeline), pipeline.visibility("promote", race.visibility):
        stage(pipeline, dataset, race)
        assert pipeline.status(dataset).number == 0
        try:
            started = time.monotonic()
            died_at_work = compete(pipeline, promoters, race)
            seconds = time.monotonic() - started
        finally:
            for promoter in promoters.living[:]:
                promoters.kill(promoter)
    status = pipeline.status(dataset)
    trees = sum(key.endswith(".metadata.json") for key in pipeline.keys(f"tables/{dataset}/metadata/"))
    answers = promoters.answers()
    print(table(race, died_at_work, seconds, status.number, trees, answers))

    assert pipeline.given_up() == 0
    nothing_is_lost_or_there_twice(pipeline, dataset, race, status)
    every_swap_follows_the_one_before(pipeline, dataset, status.number)
    # Whoever dies may have swapped and not said so.
    reported = sum(answer.get("Commits", 0) for answer in answers)
    assert reported <= status.number <= reported + died_at_work
    assert sum(answer.get("InvariantViolations", 0) for answer in answers) == 0
    assert died_at_work == race.kills, "everything was promoted before enough of them had died"


def nothing_is_lost_or_there_twice(pipeline: Pipeline, dataset: str, race: Race, status: Status) -> None:
    assert status.landed == race.raw_objects
    counts = {state: count for state, count in status.states.items() if count}
    assert counts == {"published": race.sources, "superseded": race.raw_objects - race.sources}
    rows = engines.rows(pipeline.endpoint, pipeline.stack.lake_bucket_name, dataset)
    places = Counter((row["_raw_id"], row["_raw_row"]) for row in rows)
    assert [place for place, count in places.items() if count > 1] == []
    newest = sorted((10 * n + i, race.versions(n)) for n in range(race.sources) for i in range(1, ROWS + 1))
    assert sorted((row["id"], row["amount"]) for row in rows) == newest
    assert {raw_id for raw_id, _ in places} == {raw.raw_id for raw in status.raw if raw.state == "published"}


def every_swap_follows_the_one_before(pipeline: Pipeline, dataset: str, number: int) -> None:
    """The bucket keeps every version of the pointer: the whole history of swaps."""
    metadata = f"tables/{dataset}/metadata"
    bucket, key = pipeline.stack.lake_bucket_name, f"{metadata}/version-hint.text"
    pages = list(pipeline.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key))
    assert not any(page.get("DeleteMarkers") for page in pages)
    versions = [version["VersionId"] for page in pages for version in page["Versions"]]
    names = [pipeline.s3.get_object(Bucket=bucket, Key=key, VersionId=v)["Body"].read().decode() for v in versions]
    # The newest comes first.
    assert [int(name.split("-")[0]) for name in names] == list(range(number, 0, -1))
    parent, table = None, {}
    for place, name in enumerate(reversed(names), 1):
        table = json.loads(pipeline.read(f"{metadata}/{name}.metadata.json"))
        snapshot = table["snapshots"][-1]
        assert (table["last-sequence-number"], snapshot["sequence-number"]) == (place, place)
        assert (table["current-snapshot-id"], snapshot.get("parent-snapshot-id")) == (snapshot["snapshot-id"], parent)
        parent = snapshot["snapshot-id"]
    retained = range(max(1, number - RETAINED + 1), number + 1)
    assert [snapshot["sequence-number"] for snapshot in table["snapshots"]] == list(retained)
    assert [entry["snapshot-id"] for entry in table["snapshot-log"]] == [s["snapshot-id"] for s in table["snapshots"]]
    former = [entry["metadata-file"].rsplit("/", 1)[1].removesuffix(".metadata.json") for entry in table["metadata-log"]]
    assert former == names[:0:-1][-LOGGED:]


def table(race: Race, killed: int, seconds: float, number: int, trees: int, answers: list[dict[str, Any]]) -> str:
    """What docs/benchmarks.md shows. A batch that loses nothing needs one attempt; each more is a retry."""
    attempts = sum(answer.get("CommitAttempts", 0) for answer in answers)
    gave_up = sum(answer.get("Failures", 0) > 0 for answer in answers)
    retries = attempts - (len(answers) - gave_up)
    figures = {
        "processes": race.processes,
        "killed with work in hand": killed,
        "raw objects, each asked for twice": race.raw_objects,
        "batches answered": len(answers),
        "of which gave up and came again": gave_up,
        "swaps of the pointer (commits)": number,
        "attempts at a commit": attempts,
        "retries a commit": round(retries / number, 2),
        "trees written and not swapped in": trees - number,
        "requests to S3 a commit": round(sum(count for a in answers for kind, count in a["requests"].items() if kind.startswith("s3:")) / number),
        "seconds": round(seconds),
    }
    return "\n".join(["", "| what | figure |", "|---|---:|", *(f"| {what} | {figure:,} |" for what, figure in figures.items())])
