"""What audits measure, against DuckDB on the same rows; and each of them fails where it should."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import data
import duckdb
import pytest
from conftest import NewLake, Result, audits, failed, outcome

AT = "1999-01-01T00:00:00Z"
# Audit → what it measures, as SQL. Quantiles are compared with a tolerance, being estimated.
MEASURES = {
    "rows": "count(*)",
    "comments": "count(l_comment) / count(*)",
    "ship_modes": "count(DISTINCT l_shipmode)",
    "all_ship_modes": "count(DISTINCT l_shipmode) / 7",
    "flags": "avg((l_returnflag IN ('A', 'N', 'R'))::INT)",
    "one_flag": "(SELECT max(n) FROM (SELECT count(*) AS n FROM source GROUP BY l_returnflag)) / count(*)",
    "instructions": "avg(regexp_matches(l_shipinstruct, '^[A-Z ]+$')::INT)",
    "mean_quantity": "avg(l_quantity)",
    "spread_of_quantity": "stddev_samp(l_quantity)",
    "median_quantity": "quantile_cont(l_quantity, 0.5)",
    "dear_lines": "quantile_cont(l_extendedprice, 0.99)",
    "turnover": "sum(l_extendedprice)",
    "longest_comment": "max(length(l_comment))",
    "mean_comment": "avg(length(l_comment))",
    "received_after_shipped": "avg((l_receiptdate > l_shipdate)::INT)",
    "open_lines": "avg((l_linestatus = 'F' OR l_shipdate > DATE '1995-06-17')::INT)",
    "not_returned_yet": "avg((l_returnflag = 'N' OR l_receiptdate <= DATE '1995-06-17')::INT)",
}
ESTIMATED = {"median_quantity": 0.05, "dear_lines": 0.05}
# The same audits as no file of these rows passes them.
SPOILT: dict[str, dict[str, Any]] = {
    "rows": {"min": 10_000_000},
    "key": {"columns": ["l_orderkey"]},
    "comments": {"max": 0.5},
    "ship_modes": {"max": 6},
    "all_ship_modes": {"values": ["AIR", "CANOE"]},
    "flags": {"values": ["A", "N"]},
    "one_flag": {"max": 0.2},
    "instructions": {"pattern": "^[A-Z]+$"},
    "first_shipped": {"min": "1995-01-01"},
    "last_received": {"max": "1995-01-01"},
    "mean_quantity": {"min": 30},
    "spread_of_quantity": {"max": 12},
    "median_quantity": {"min": 35},
    "dear_lines": {"max": 1000},
    "turnover": {"max": 1},
    "longest_comment": {"max": 10},
    "mean_comment": {"min": 39},
    "received_after_shipped": {"where": "l_receiptdate < l_shipdate"},
    "open_lines": {"where": "l_linestatus = 'O'"},
    "not_returned_yet": {"where": "not (l_returnflag = 'N' or l_receiptdate <= date '1995-06-17')"},
    "dear_and_cheap": {"where": "mean(l_extendedprice) < mean(l_quantity)"},
}


def taken(new_lake: NewLake, folder: Path, rules: list[dict[str, Any]] | None = None) -> tuple[Path, Result]:
    contract = data.contract(data.LINEITEM, **({"audits": rules} if rules else {}))
    path = data.lineitem(folder / "lineitem.csv", 3000)
    [result] = new_lake(contract).take((path, AT))
    return path, result


def test_each_measures_what_it_says(new_lake: NewLake, tmp_path: Path) -> None:
    path, result = taken(new_lake, tmp_path)
    assert (outcome(result), failed(result)) == ("publish", set())
    rules = data.contract(data.LINEITEM)["x-sluicegate"]["audits"]
    assert [audit["id"] for audit in result["audits"]] == [rule["id"] for rule in rules]
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE source AS FROM read_csv('{path}', header = true)")
        for name, select in MEASURES.items():
            [(value,)] = db.execute(f"SELECT {select} FROM source").fetchall()
            assert audits(result)[name]["value"] == pytest.approx(value, rel=ESTIMATED.get(name, 1e-9)), name
    looking_back = {rule["id"] for rule in rules if rule["audit"] in ("volume", "drift")}
    assert {name for name, audit in audits(result).items() if audit["state"] == "no_history"} == looking_back
    assert all(audit["expected"] and audit["found"] for audit in result["audits"])
    assert all(math.isfinite(audit.get("value", 0)) for audit in result["audits"])


def test_each_fails_where_it_should(new_lake: NewLake, tmp_path: Path) -> None:
    rules = [rule for rule in data.contract(data.LINEITEM)["x-sluicegate"]["audits"] if rule["id"] in SPOILT]
    spoilt = []
    for rule in rules:
        change = SPOILT[rule["id"]]
        kept = {key: value for key, value in rule.items() if not ({"min", "max"} & set(change) and key in ("min", "max"))}
        spoilt.append(kept | change)
    _, result = taken(new_lake, tmp_path, spoilt)
    assert failed(result) == set(SPOILT)
    assert (outcome(result), result["state"]) == ("hold", "held")
    assert result["verdict"]["reasons"]
    assert result["verdict"]["coverage"]["rows_quarantined"] == 0
