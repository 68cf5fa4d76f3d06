"""`_raw_id` and `_raw_row` lead from a published row back to the very bytes that it came from."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import data
import duckdb
import pytest
from conftest import Lake, NewLake, Result, written

ROWS = 1000
NOTES: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "x-sluicegate": {"version": "1.0.0", "team": {"name": "t"}, "format": {"type": "csv"}, "bad_rows": {"max_fraction": 0.5}},
    "required": ["id"],
    "properties": {"id": {"type": "integer", "minimum": 0}, "note": {"type": ["string", "null"]}},
}


def sample(lake: Lake, results: list[Result], columns: str) -> list[tuple[Any, ...]]:
    """Published rows at random, the same every time: `_raw_id`, `_raw_row` and some columns."""
    files = [path for result in results for path in lake.parquet(result)]
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        scan = f"read_parquet({files}, hive_partitioning = false)"
        rows = db.execute(f"SELECT _raw_id, _raw_row, {columns} FROM {scan} ORDER BY 1, 2").fetchall()
    return random.Random(4).sample(rows, min(ROWS, len(rows)))


def records(raw: bytes) -> list[bytes]:
    """The records of CSV without escapes other than doubled quotes, each with its line end."""
    found, start, quoted = [], 0, False
    for at, byte in enumerate(raw):
        quoted ^= byte == ord('"')
        if byte == ord("\n") and not quoted:
            found.append(raw[start : at + 1])
            start = at + 1
    return found + [raw[start:]] * (start < len(raw))


def unpacked(lake: Lake, results: list[Result]) -> dict[str, bytes]:
    raws = {result["raw_id"]: lake.raw(result) for result in results}
    return {raw_id: gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw for raw_id, raw in raws.items()}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_csv(new_lake: NewLake, tmp_path: Path, packed: bool) -> None:
    header, days = data.month()
    landings = []
    for day, rows in list(days.items())[:5]:
        # A bad row in between: those after it keep their numbers.
        rows = [rows[0], data.with_cell(header, rows[1], "origin", b"XXX"), *rows[2:]]
        body = b"".join([header, *rows])
        landings.append((written(tmp_path / f"{day}.csv", [gzip.compress(body, mtime=0) if packed else body]), f"{day}T23:59:59Z"))
    lake = new_lake(data.flights_contract(bad_rows={"max_fraction": 0.1}, audits=None))
    results = lake.take(*landings)
    raws = {raw_id: raw.splitlines() for raw_id, raw in unpacked(lake, results).items()}
    names = ("year", "month", "day", "dep_time", "flight", "tailnum", "origin", "dest")
    for raw_id, row, *values in sample(lake, results, ", ".join(names)):
        [cells] = csv.DictReader([header.decode(), raws[raw_id][row].decode()])
        assert values == [_value(cells[name]) for name in names]


def _value(text: str) -> Any:
    return None if text in ("", "NA") else int(text) if text.lstrip("-").isdigit() else text


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_json_lines(new_lake: NewLake, tmp_path: Path, packed: bool) -> None:
    lines = [data.line_of(row) for row in data.orders(3000)]
    # Blank lines are no rows, and bad rows have a number.
    body = b"".join([lines[0], b"\n", b"{}\n", *lines[1:]])
    lake = new_lake(data.orders_contract())
    results = lake.take((written(tmp_path / "orders.jsonl", [gzip.compress(body, mtime=0) if packed else body]), "2025-03-02T00:00:00Z"))
    [raw] = unpacked(lake, results).values()
    rows = [line for line in raw.splitlines() if line]
    for _, row, order, placed, customer, total in sample(lake, results, "order_id, epoch_us(placed_at), customer.id, total"):
        source = json.loads(rows[row - 1])
        moment = datetime.fromisoformat(source["placed_at"].replace("Z", "+00:00"))
        assert (order, customer, float(total)) == (source["id"], source["customer"]["id"], source["total"])
        assert abs(placed - moment.timestamp() * 1e6) < 1


def test_rows_of_many_lines(new_lake: NewLake, tmp_path: Path) -> None:
    dice = random.Random(5)
    notes = ["".join(dice.choices('ab,"\r\né', k=dice.randrange(1, 9))) for _ in range(2000)]
    quoted = [note.replace('"', '""') for note in notes]
    lines = [f'{n if n % 50 else -1},"{note}"\r\n'.encode() for n, note in enumerate(quoted)]
    lake = new_lake(NOTES)
    results = lake.take((written(tmp_path / "notes.csv", [b"id,note\r\n", *lines]), "2025-01-01T00:00:00Z"))
    [raw] = unpacked(lake, results).values()
    rows = records(raw)
    for _, row, number, note in sample(lake, results, "id, note"):
        [[source_id, source_note]] = csv.reader(io.StringIO(rows[row].decode(), newline=""), strict=True)
        assert (number, note) == (int(source_id), source_note)
