"""Faults planted at seeded places in real rows: each is quarantined for what it is, and no other row is."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
import pytest
from conftest import Lake, NewLake, Result, outcome, written

EACH = 25
# A column and the rule that it breaks; the column is None where the row as a whole is wrong.
Broken = tuple[str | None, str]
Change = Callable[[Any], bytes]


def cell(header: bytes, name: str, value: bytes) -> Change:
    return lambda row: data.with_cell(header, row, name, value)


def csv_faults(header: bytes) -> list[tuple[list[Broken], Change]]:
    both = lambda row: data.with_cell(header, data.with_cell(header, row, "month", b"13"), "origin", b"XXX")  # noqa: E731
    of_cells: list[tuple[str, bytes, str]] = [
        ("distance", b"far", "type"), ("month", b"1.5", "type"), ("flight", b"1e3", "type"), ("flight", b" 5", "type"),
        ("air_time", b"NaN", "type"), ("distance", b"inf", "type"),
        ("month", b"13", "maximum"), ("hour", b"-1", "minimum"), ("air_time", b"0", "exclusiveMinimum"),
        ("flight", b"99999999999999999999", "maximum"),
        ("origin", b"XXX", "enum"), ("carrier", b"U", "pattern"), ("dest", b'I"A', "pattern"),
        ("tailnum", b"N1", "minLength"), ("tailnum", b"N123456", "maxLength"),
        ("carrier", b"", "required"), ("origin", b"NA", "required"),
        ("time_hour", b"2013-02-30T10:00:00Z", "format"), ("time_hour", b"2013-01-01T10:00:00", "format"),
        ("time_hour", b"2014-01-01T10:00:00Z", "max_ahead"),
    ]  # fmt: skip
    return [
        *(([(name, rule)], cell(header, name, value)) for name, value, rule in of_cells),
        ([("month", "maximum"), ("origin", "enum")], both),
        ([(None, "columns")], lambda row: row.rsplit(b",", 1)[0] + b"\n"),
        ([(None, "columns")], lambda row: row.rstrip(b"\n") + b",1\n"),
        ([(None, "encoding")], cell(header, "tailnum", b"N\xff\xfe11")),
        ([(None, "encoding")], cell(header, "tailnum", b"N\xc0\xaf11")),
        ([(None, "encoding")], cell(header, "tailnum", b"N\x00111")),
    ]


def json_faults() -> list[tuple[list[Broken], Change]]:
    make, line = data.maker("orders"), data.line_of
    of_rows: list[tuple[str | None, str, Callable[[Any], Any]]] = [
        ("total", "type", make.edit(total="12.50")), ("total", "type", make.edit(total=None)),
        ("total", "logicalType", make.edit(total=12345678901.5)), ("lines", "logicalType", make.edit_line(price=4.755)),
        ("lines", "minimum", make.edit_line(quantity=0)), ("lines", "maximum", make.edit_line(quantity=1001)),
        ("lines", "pattern", make.edit_line(sku="tea")), ("lines", "minItems", make.edit(lines=[])),
        ("lines", "maxItems", lambda row: {**row, "lines": row["lines"][:1] * 101}),
        ("customer", "format", make.edit_inside("customer", email="mallory at secret.example")),
        ("status", "enum", make.edit(status="lost")), ("shipped_at", "required", make.unshipped),
        ("total", "required", lambda row: {name: value for name, value in row.items() if name != "total"}),
        ("placed_at", "format", make.edit(placed_at="2025-02-30T10:00:00Z")),
        ("placed_at", "max_ahead", make.edit(placed_at="2099-01-01T10:00:00Z")),
        (None, "type", lambda row: [row]), (None, "type", lambda row: "order"),
    ]  # fmt: skip
    of_bytes: list[tuple[str, Callable[[bytes], bytes]]] = [
        ("json", lambda row: row[:-40] + b"\n"),
        ("json", lambda row: row[:-1] + row),
        ("json", lambda row: b'{"total":1,' + row[1:]),
        ("json", lambda row: row[:-2] + b',"note":NaN}\n'),
        ("json", lambda row: row[:-2] + b',"note":"\\ud800"}\n'),
        ("json", lambda row: row[:-2] + b',"note":"a\x00b"}\n'),
        ("encoding", lambda row: row[:-2] + b',"note":"\xff\xfe"}\n'),
    ]
    return [
        *(([(column, rule)], lambda row, edit=edit: line(edit(row))) for column, rule, edit in of_rows),
        *(([(None, rule)], lambda row, edit=edit: edit(line(row))) for rule, edit in of_bytes),
    ]


def planted(rows: list[Any], faults: list[tuple[list[Broken], Change]], as_bytes: Change, seed: int) -> tuple[list[bytes], dict[int, list[Broken]]]:
    """Breaks rows at seeded places, the last left as it is; answers with all of them and what is broken where, from row 1."""
    dice, broken = random.Random(seed), {}
    lines = [as_bytes(row) for row in rows]
    for n, place in enumerate(dice.sample(range(len(rows) - 1), EACH * len(faults))):
        broken[place + 1], change = faults[n % len(faults)]
        lines[place] = change(rows[place])
    return lines, broken


def agree(lake: Lake, result: Result, header: bytes, lines: list[bytes], broken: dict[int, list[Broken]]) -> None:
    """Holds the verdict and the quarantine against what was planted, and every offset against the raw object."""
    assert outcome(result) == "publish", result["verdict"]
    coverage, raw = result["verdict"]["coverage"], lake.raw(result)
    assert (coverage["rows_read"], coverage["rows_quarantined"]) == (len(lines), len(broken))
    assert coverage["bytes"] == len(raw)
    found = lake.quarantined(result)
    assert {reason["row"]: faults(reason) for reason, _ in found} == broken
    assert len(found) == len(broken)
    at, starts = len(header), []
    for line in lines:
        starts.append(at)
        at += len(line)
    for reason, kept in found:
        row = reason["row"] - 1
        # Within quotes an end of line is part of the row.
        is_open = any(fault["rule"] == "quotes" for fault in reason["faults"])
        line = lines[row] if is_open else lines[row].rstrip(b"\n")
        assert (reason["offset"], reason["length"]) == (starts[row], len(line))
        assert raw[reason["offset"] :][: reason["length"]] == kept == line


def faults(reason: dict[str, Any]) -> list[Broken]:
    return [(fault["column"], fault["rule"]) for fault in reason["faults"]]


def raw_rows(lake: Lake, result: Result) -> list[int]:
    import duckdb

    with duckdb.connect() as db:
        scan = f"read_parquet({lake.parquet(result)}, hive_partitioning = false)"
        return [row for (row,) in db.execute(f"SELECT _raw_row FROM {scan} ORDER BY 1").fetchall()]


@pytest.mark.parametrize("seed", [1, 2])
def test_csv(new_lake: NewLake, tmp_path: Path, seed: int) -> None:
    header, days = data.month()
    rows = [row for day in days.values() for row in day]
    lines, broken = planted(rows, csv_faults(header), lambda row: row, seed)
    # The last row opens a quote that nothing closes.
    lines[-1] = data.with_cell(header, rows[-1], "time_hour", b'"2013-01-31T10:00:00Z')
    broken[len(rows)] = [(None, "quotes")]
    lake = new_lake(data.flights_contract(bad_rows={"max_fraction": 0.1}, lateness={"allowed": "P366D"}, audits=None))
    [result] = lake.take((written(tmp_path / "flights.csv", [header, *lines]), "2013-02-01T00:00:00Z"))
    agree(lake, result, header, lines, broken)
    assert raw_rows(lake, result) == [row for row in range(1, len(lines) + 1) if row not in broken]


@pytest.mark.parametrize("seed", [1, 2])
def test_json_lines(new_lake: NewLake, tmp_path: Path, seed: int) -> None:
    rows = list(data.orders(6000))
    lines, broken = planted(rows, json_faults(), data.line_of, seed)
    # The last object is cut off, and has no line feed.
    lines[-1] = data.line_of(rows[-1])[:-2]
    broken[len(rows)] = [(None, "json")]
    lake = new_lake(data.orders_contract(bad_rows={"max_fraction": 0.2}))
    [result] = lake.take((written(tmp_path / "orders.jsonl", lines), "2025-03-02T00:00:00Z"))
    agree(lake, result, b"", lines, broken)
    assert raw_rows(lake, result) == [row for row in range(1, len(lines) + 1) if row not in broken]


def test_a_quote_that_nothing_closes_swallows_no_row_before_it(new_lake: NewLake, tmp_path: Path) -> None:
    header, days = data.month()
    rows = days["2013-01-02"]
    middle = len(rows) // 2
    lines = [*rows[:middle], data.with_cell(header, rows[middle], "dest", b'"IAH'), *rows[middle + 1 :]]
    lake = new_lake(data.flights_contract(bad_rows={"max_fraction": 0.1}, audits=None))
    [result] = lake.take((written(tmp_path / "flights.csv", [header, *lines]), "2013-01-03T06:00:00Z"))
    [(reason, kept)] = lake.quarantined(result)
    assert (reason["row"], reason["offset"]) == (middle + 1, len(header) + sum(map(len, rows[:middle])))
    assert faults(reason)[0][1] in ("quotes", "columns")
    assert lake.raw(result)[reason["offset"] :].rstrip(b"\n") == kept.rstrip(b"\n")
    assert raw_rows(lake, result) == list(range(1, middle + 1))
