"""Keys that come twice: counted exactly, whatever their type and wherever they stand; and none is seen where none is."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import data
import pytest
from conftest import NewLake, audits, outcome, written

AT = "2025-03-02T00:00:00Z"
KEY: dict[str, Any] = {"id": "key", "audit": "unique"}


@pytest.mark.parametrize("copies", [0, 1, 3, 57])
def test_orders(new_lake: NewLake, tmp_path: Path, copies: int) -> None:
    dice = random.Random(copies)
    rows = list(data.orders(5000))
    # Another order under an id that is taken: the rows are not the same, their keys are.
    places = dice.sample(range(len(rows)), 2 * copies)
    for place, other in zip(places[:copies], places[copies:]):
        rows[place] = {**rows[place], "id": rows[other]["id"]}
    [result] = new_lake(data.orders_contract(audits=[KEY])).take((written(tmp_path / "orders.jsonl", map(data.line_of, rows)), AT))
    key = audits(result)["key"]
    if not copies:
        assert (outcome(result), key["state"]) == ("publish", "passed")
        return
    assert (outcome(result), key["state"], result["state"]) == ("hold", "failed", "held")
    assert key["value"] == copies
    assert str(copies) in key["found"]
    twice = {rows[other]["id"] for other in places[copies:]}
    # Rows are named by their numbers, from 1, the earlier one first.
    pairs = [[int(number) for number in re.findall(r"\d+", said)] for said in key["sample"]]
    assert len(pairs) == min(copies, 5)
    for earlier, later in pairs:
        assert earlier < later and rows[earlier - 1]["id"] == rows[later - 1]["id"] and rows[later - 1]["id"] in twice


@pytest.mark.parametrize("copies", [0, 4])
def test_keys_of_two_columns(new_lake: NewLake, tmp_path: Path, copies: int) -> None:
    path = data.lineitem(tmp_path / "lineitem.csv", 5000)
    header, *rows = path.read_bytes().splitlines(keepends=True)
    rows += random.Random(1).sample(rows, copies)
    contract = data.contract(data.LINEITEM, audits=[{**KEY, "columns": ["l_orderkey", "l_linenumber"]}])
    [result] = new_lake(contract).take((written(path, [header, *rows]), "1999-01-01T00:00:00Z"))
    key = audits(result)["key"]
    assert (outcome(result), key["state"]) == (("hold", "failed") if copies else ("publish", "passed"))
    if copies:
        assert key["value"] == copies


def test_a_row_in_quarantine_is_no_duplicate(new_lake: NewLake, tmp_path: Path) -> None:
    rows = list(data.orders(1000))
    rows[500] = {**rows[7], "total": "12.50"}
    contract = data.orders_contract(audits=[KEY], bad_rows={"max_fraction": 0.01})
    [result] = new_lake(contract).take((written(tmp_path / "orders.jsonl", map(data.line_of, rows)), AT))
    assert (outcome(result), audits(result)["key"]["state"]) == ("publish", "passed")
    assert result["verdict"]["coverage"]["rows_quarantined"] == 1


def test_a_warning_about_keys_publishes(new_lake: NewLake, tmp_path: Path) -> None:
    rows = list(data.orders(1000))
    rows[500] = {**rows[500], "id": rows[7]["id"]}
    [result] = new_lake(data.orders_contract(audits=[{**KEY, "severity": "warn"}])).take(
        (written(tmp_path / "orders.jsonl", map(data.line_of, rows)), AT)
    )
    assert (outcome(result), result["state"], audits(result)["key"]["state"]) == ("publish", "published", "failed")
