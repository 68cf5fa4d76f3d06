"""All 336,776 flights of 2013 as 365 daily files, with functions killed in the middle of their work.

What it measured goes to .local/year.json and .local/year.md. The times are those of an emulator on one machine: they say
that nothing is lost or stuck, not how fast AWS would be.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from local import EXAMPLE, LOCAL, cost, engines, example
from local.emulator import Emulator
from local.pipeline import Pipeline, Status, Upload, requests

pytestmark = pytest.mark.long

DATASET = "year"
ROWS, CANCELLED, DAYS = 336_776, 8_255, 365
INTERRUPTIONS = 10
CORRECTED, REMOVED = 100, 10
SECONDS = 1800.0
# As the emulator words it when a process ends between taking an event and answering it.
INTERRUPTED = re.compile(rb"\] Lambda \S+: Runtime exited before returning a response")


class Year:
    """The pipeline after its first pass over the year, and what has been measured so far."""

    def __init__(self, pipeline: Pipeline, files: dict[str, bytes]) -> None:
        self.pipeline, self.files = pipeline, files
        self.measured: dict[str, Any] = {"files": len(files), "rows": ROWS, "bytes": sum(map(len, files.values()))}

    def settle(self, landed: int) -> Status:
        """Looks at keys and queues first: asking for the status of a thousand files costs more than both."""
        deadline = time.monotonic() + SECONDS
        while len(self.pipeline.keys(f"raw/{DATASET}/")) < landed:
            assert self.pipeline.given_up() == 0, self.pipeline.depths()
            assert time.monotonic() < deadline, f"{landed} files should have landed within {SECONDS:.0f} s"
            time.sleep(1)
        self.pipeline.wait_idle(SECONDS)
        return self.pipeline.wait_settled(DATASET, landed, SECONDS)

    def digests(self) -> dict[str, tuple[int, int]]:
        """Rows and a checksum of every column of them, by raw id."""
        location = engines.root(self.pipeline.stack.lake_bucket_name, DATASET)
        with engines.duckdb_connection(self.pipeline.endpoint) as connection:
            rows = connection.execute(
                f"SELECT flights._raw_id, count(*), sum(hash(flights)) FROM iceberg_scan('{location}') flights GROUP BY 1"
            ).fetchall()
        return {raw_id: (count, int(checksum)) for raw_id, count, checksum in rows}

    def agree(self, want: example.Figures) -> None:
        for name, engine in engines.ENGINES.items():
            assert engine(self.pipeline.endpoint, self.pipeline.stack.lake_bucket_name, DATASET) == want, name


@contextmanager
def killing(aws: Emulator) -> Iterator[Callable[[], int]]:
    """Kills function processes at random until INTERRUPTIONS of them died with work in hand; yields that number."""
    dice, stop = random.Random(2013), threading.Event()

    def interrupted() -> int:
        return len(INTERRUPTED.findall(aws.log.read_bytes()))

    def kill() -> None:
        while not stop.is_set() and interrupted() < INTERRUPTIONS:
            if victims := aws.function_processes():
                with suppress(ProcessLookupError):
                    os.kill(dice.choice(victims), signal.SIGKILL)
            stop.wait(dice.uniform(0.1, 0.5))

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield interrupted
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def year(aws: Emulator, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Year]:
    folder = tmp_path_factory.mktemp("year")
    subprocess.run([sys.executable, str(EXAMPLE / "make_data.py"), "--year", str(folder)], check=True)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    assert len(files) == DAYS
    contract = example.contract()
    contract["x-sluicegate"]["lateness"]["allowed"] = "P366D"
    pipeline.upload_contract(DATASET, contract)
    pipeline.wait_contract(DATASET)

    run = Year(pipeline, files)
    # What a killed function had in hand comes back after this, instead of the template's hour and a half.
    with pipeline.visibility("stage", 20), pipeline.visibility("promote", 20):
        started = time.time()
        with killing(aws) as interrupted, ThreadPoolExecutor(4) as pool:
            uploads = list(pool.map(lambda item: pipeline.upload(DATASET, *item), files.items()))
            status = run.settle(DAYS)
        run.measured |= {"seconds": round(time.time() - started, 1), "interrupted": interrupted()}
    run.measured |= latencies(status, uploads)
    yield run
    write(run)


def latencies(status: Status, uploads: list[Upload]) -> dict[str, float]:
    at = {upload.key.split("/", 1)[1]: upload.at for upload in uploads}
    seconds = [raw.published_at - at[raw.source] for raw in status.raw if raw.published_at]
    return {"published_after_median": round(statistics.median(seconds), 2), "published_after_worst": round(max(seconds), 2)}


def write(run: Year) -> None:
    summaries = run.pipeline.summaries()
    bill = cost.bill(requests(summaries), summaries)
    run.measured |= {
        "invocations": len(summaries),
        "snapshots": run.pipeline.status(DATASET).number,
        "requests": dict(sorted(requests(summaries).items())),
        "usd": float(round(sum(item.usd or 0 for item in bill), 6)),
    }
    (LOCAL / "year.json").write_text(json.dumps(run.measured, indent=2) + "\n")
    plain = [(name, value) for name, value in run.measured.items() if not isinstance(value, dict)]
    lines = ["| what | figure |", "|---|---:|", *(f"| {name.replace('_', ' ')} | {value:,} |" for name, value in plain)]
    lines += [f"| {item.what} | {item.quantity} |" for item in bill]
    (LOCAL / "year.md").write_text("\n".join(lines) + "\n")


def test_no_row_is_lost_though_functions_were_killed(year: Year) -> None:
    assert year.measured["interrupted"] >= INTERRUPTIONS
    status = year.pipeline.status(DATASET)
    assert status.rows["published"] + status.rows["quarantined"] == ROWS
    assert status.states["published"] == DAYS
    assert year.pipeline.given_up() == 0


def test_engines_agree_with_the_csv(year: Year) -> None:
    want = example.figures(year.files.values())
    assert (want.rows, want.null_dep_time) == (ROWS, CANCELLED)
    year.agree(want)
    year.measured |= {"distance": want.distance, "null_dep_time": want.null_dep_time}


def test_all_again_unchanged_with_events_twice_and_in_disorder(year: Year) -> None:
    started = time.time()
    with year.pipeline.events_withheld(), ThreadPoolExecutor(8) as pool:
        uploads = list(pool.map(lambda item: year.pipeline.upload(DATASET, *item), year.files.items()))
        events = uploads * 2
        random.Random(2013).shuffle(events)
        list(pool.map(lambda upload: year.pipeline.deliver([upload]), events))
    status = year.settle(2 * DAYS)
    year.measured["seconds_again"] = round(time.time() - started, 1)
    assert (status.states["published"], status.states["superseded"]) == (DAYS, DAYS)
    year.agree(example.figures(year.files.values()))


def test_one_corrected_file_changes_its_own_rows_in_one_snapshot(year: Year) -> None:
    name = "2013-07-04.csv"
    number, before = year.pipeline.status(DATASET).number, year.digests()
    old = year.pipeline.status(DATASET).published(name)
    header, *rows = year.files[name].splitlines(keepends=True)
    column = header.decode().strip().split(",").index("distance")

    def correct(row: bytes) -> bytes:
        fields = row.split(b",")
        fields[column] = str(int(fields[column]) + 1).encode()
        return b",".join(fields)

    body = b"".join([header, *map(correct, rows[:CORRECTED]), *rows[CORRECTED:-REMOVED]])
    year.pipeline.upload(DATASET, name, body)
    status = year.settle(2 * DAYS + 1)
    new, after = status.published(name), year.digests()
    assert status.number == number + 1
    assert before.pop(old.raw_id)[0] == len(rows)
    assert after.pop(new.raw_id)[0] == len(rows) - REMOVED
    assert after == before
    year.files[name] = body
    year.agree(example.figures(year.files.values()))
