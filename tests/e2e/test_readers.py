"""Every live snapshot as other people's engines read it, and the README's snippets, which are what is run here.

What a file says is read by the csv module. A metadata file that no publish swapped in lies in the table, with the highest
number of all: whoever goes by numbers instead of by the pointer reads an old snapshot for the newest.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from local import EXAMPLE, ROOT, engines, example
from local.build import target
from local.emulator import Emulator
from local.pipeline import Pipeline

Row = dict[str, Any]
# By snapshot id, oldest first: the rows that were uploaded up to then.
History = dict[int, list[Row]]

DATASET = "departures"
CONTRACT = example.contract()
GATES = example.contract()
GATES["x-sluicegate"]["version"] = "1.1.0"
GATES["properties"]["gate"] = {"type": ["string", "null"], "description": "Gate of departure."}
PROPERTIES = GATES["properties"]
KINDS = {"integer": int, "number": float, "string": str}


def flights(day: int, count: int, gate: str | None = None) -> bytes:
    """The first so many of a day, with a gate or without that column."""
    lines = (EXAMPLE / f"2013-01-{day:02}.csv").read_text().splitlines()[: count + 1]
    if gate:
        lines = [f"{line},{'gate' if n == 0 else gate}" for n, line in enumerate(lines)]
    return "".join(f"{line}\n" for line in lines).encode()


# The third replaces the rows of the first; the fourth comes under the contract that knows gates.
UPLOADS = [("a.csv", flights(1, 60)), ("b.csv", flights(2, 50)), ("a.csv", flights(3, 40)), ("c.csv", flights(4, 30, "B7"))]


def rows_of(body: bytes) -> list[Row]:
    return [{name: value(name, text) for name, text in row.items()} for row in csv.DictReader(io.StringIO(body.decode()))]


def value(name: str, text: str) -> Any:
    if text in ("", "NA"):
        return None
    if PROPERTIES[name].get("format") == "date-time":
        return instant(text)
    return next(read(text) for kind, read in KINDS.items() if kind in PROPERTIES[name]["type"])


def instant(text: str) -> datetime:
    # Python 3.10 takes no Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def plain(rows: list[Row]) -> list[list[Any]]:
    """The contract's columns, in an order that both sides have; a column that a snapshot does not have yet is null."""
    return sorted(([row.get(name) for name in PROPERTIES] for row in rows), key=repr)


@pytest.fixture(scope="module")
def history(pipeline: Pipeline) -> History:
    assert pipeline.land_contract(DATASET, CONTRACT) is None
    files: dict[str, list[Row]] = {}
    wanted = []
    for landed, (name, body) in enumerate(UPLOADS, 1):
        if landed == len(UPLOADS):
            assert pipeline.land_contract(DATASET, GATES) is None
        pipeline.upload(DATASET, name, body)
        pipeline.wait_settled(DATASET, landed)
        files[name] = rows_of(body)
        wanted.append([row for rows in files.values() for row in rows])
    leave_unpublished(pipeline)
    snapshots = engines.snapshots(pipeline.endpoint, pipeline.stack.lake_bucket_name, DATASET)
    assert len(snapshots) == len(wanted)
    return dict(zip(snapshots, wanted))


def leave_unpublished(pipeline: Pipeline) -> None:
    """The first snapshot's metadata once more under a higher number, as a promote that died before its swap leaves it."""
    first = min(key for key in pipeline.keys(f"tables/{DATASET}/metadata/") if key.endswith(".metadata.json"))
    key = re.sub(r"/[0-9]+-", "/99999-", first)
    pipeline.s3.put_object(Bucket=pipeline.stack.lake_bucket_name, Key=key, Body=pipeline.read(first))


@pytest.mark.parametrize("engine", engines.ROWS)
def test_every_live_snapshot_holds_what_was_uploaded_up_to_then(pipeline: Pipeline, history: History, engine: str) -> None:
    for number, (snapshot, want) in enumerate(history.items(), 1):
        found = engines.ROWS[engine](pipeline.endpoint, pipeline.stack.lake_bucket_name, DATASET, snapshot)
        assert plain(found) == plain(want), number
    newest = engines.ROWS[engine](pipeline.endpoint, pipeline.stack.lake_bucket_name, DATASET)
    assert plain(newest) == plain(want)


@pytest.mark.long
def test_every_live_snapshot_as_clickhouse_reads_it(pipeline: Pipeline, history: History) -> None:
    def read(snapshot: int | None = None) -> list[list[Any]]:
        rows = engines.rows_by_clickhouse(pipeline.endpoint, pipeline.stack.lake_bucket_name, DATASET, snapshot)
        return plain([{**row, "time_hour": instant(row["time_hour"])} for row in rows])

    for number, (snapshot, want) in enumerate(history.items(), 1):
        assert read(snapshot) == plain(want), number
    assert read() == plain(want)


@pytest.mark.long
def test_every_live_snapshot_as_the_iceberg_crate_reads_it(aws: Emulator, pipeline: Pipeline, history: History) -> None:
    want = {snapshot: {"rows": len(rows), "sum": sum(row["distance"] for row in rows)} for snapshot, rows in history.items()}
    assert by_iceberg_crate(aws, pipeline, DATASET, "distance") == want


def by_iceberg_crate(aws: Emulator, pipeline: Pipeline, dataset: str, column: str) -> dict[int, Row]:
    """By snapshot, of all its rows, read whole: how many, and the sum of a column."""
    folder, manifest = target().parent / "oracle", ROOT / "tests" / "oracle" / "Cargo.toml"
    subprocess.run(["cargo", "build", "--locked", "--manifest-path", manifest, "--target-dir", folder], check=True)
    location = engines.table(pipeline.endpoint, pipeline.stack.lake_bucket_name, dataset).metadata_location
    done = subprocess.run(
        [folder / "debug" / "oracle", location, column], env=aws.environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return {int(snapshot): figures for snapshot, figures in json.loads(done.stdout).items()}


@pytest.mark.long
def test_nested_rows_as_clickhouse_and_the_iceberg_crate_read_them(aws: Emulator, pipeline: Pipeline) -> None:
    dataset, folder = "nested_orders", ROOT / "examples" / "orders"
    assert pipeline.land_contract(dataset, (folder / "contract.json").read_bytes()) is None
    pipeline.upload(dataset, "a.jsonl", (folder / "2025-03-01.jsonl").read_bytes())
    pipeline.wait_settled(dataset, 1)
    # As pyiceberg reads them, which other tests hold against the file.
    want = engines.rows(pipeline.endpoint, pipeline.stack.lake_bucket_name, dataset)
    [found] = by_iceberg_crate(aws, pipeline, dataset, "total").values()
    assert found == {"rows": len(want), "sum": pytest.approx(float(sum(row["total"] for row in want)))}

    assert None in [row["shipping_address"] for row in want]
    for row in want:
        row["shipping_address"] = row["shipping_address"] or {"street": "", "city": "", "postal_code": "", "country": ""}
    rows = engines.rows_by_clickhouse(pipeline.endpoint, pipeline.stack.lake_bucket_name, dataset)
    assert in_order(rows) == in_order([json_of(row) for row in want])


def in_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row["_raw_row"])


def json_of(value: Any) -> Any:
    """As ClickHouse writes it."""
    if isinstance(value, dict):
        return {name: json_of(part) for name, part in value.items()}
    if isinstance(value, list):
        return [json_of(part) for part in value]
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return float(value) if isinstance(value, Decimal) else value


# The README.

RUN, TOLD = {"DuckDB", "pyiceberg", "Polars", "ClickHouse"}, {"Spark", "Athena"}


def snippets() -> dict[str, str]:
    """By engine, the word that the first line is a comment about."""
    [section] = re.findall(r"^## Read a table$(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^```(?:sql|python)\n((?:--|#) (\w+).*?)^```$", section, re.MULTILINE | re.DOTALL)
    return {engine: block for block, engine in blocks}


def snippet(pipeline: Pipeline, history: History, engine: str, lines: dict[str, str]) -> str:
    """An engine's block, filled in with this table and its second snapshot, and some lines, known by their start, replaced."""
    _, second, *_ = history
    block = snippets()[engine]
    for start, line in lines.items():
        block, count = re.subn(rf"^{re.escape(start)}.*$", lambda _: line, block, flags=re.MULTILINE)
        assert count == 1, start
    fill = {"LAKE/tables/flights": f"{pipeline.stack.lake_bucket_name}/tables/{DATASET}", "SNAPSHOT": str(second)}
    return re.sub("|".join(fill), lambda found: fill[found[0]], block)


def test_every_snippet_is_run_or_known_not_to_be() -> None:
    assert set(snippets()) == RUN | TOLD


def test_the_snippet_for_duckdb(pipeline: Pipeline, history: History) -> None:
    _, second, *_, newest = history.values()
    # The connection has both already: the extensions from packages, and the secret for the emulator.
    text = snippet(pipeline, history, "DuckDB", {"INSTALL httpfs": "", "CREATE SECRET": ""})
    with engines.duckdb_connection(pipeline.endpoint) as connection:
        months, listed, then = (connection.execute(statement.query).fetchall() for statement in duckdb.extract_statements(text))
    delays = [row["dep_delay"] for row in newest if row["dep_delay"] is not None]
    assert months == [(1, len(newest), pytest.approx(sum(delays) / len(delays)))]
    assert {snapshot for snapshot, _ in listed} == set(history)
    assert then == [(len(second),)]


def test_the_snippet_for_pyiceberg(pipeline: Pipeline, history: History) -> None:
    first, *_, newest = history.values()
    found: dict[str, Any] = {}
    exec(snippet(pipeline, history, "pyiceberg", {"s3 = ": f"s3 = {engines.properties(pipeline.endpoint)}"}), found)
    assert plain(found["from_jfk"].to_pylist()) == plain([row for row in newest if row["origin"] == "JFK"])
    assert plain(found["first"].to_pylist()) == plain(first)


def test_the_snippet_for_polars(pipeline: Pipeline, history: History) -> None:
    _, second, *_, newest = history.values()
    found: dict[str, Any] = {}
    exec(snippet(pipeline, history, "Polars", {"s3 = ": f"s3 = {engines.properties(pipeline.endpoint)}"}), found)
    assert plain(found["from_jfk"].to_dicts()) == plain([row for row in newest if row["origin"] == "JFK"])
    assert plain(found["then"].to_dicts()) == plain(second)


@pytest.mark.long
def test_the_snippet_for_clickhouse(pipeline: Pipeline, history: History) -> None:
    _, second, *_ = history.values()
    text = snippet(pipeline, history, "ClickHouse", {}).replace("https://s3.us-east-1.amazonaws.com", pipeline.endpoint)
    assert {row["month"]: row["count()"] for row in engines.by_clickhouse(text)} == Counter(row["month"] for row in second)
