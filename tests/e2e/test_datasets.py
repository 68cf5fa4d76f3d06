"""The contracts of examples/ with their data, read back by other people's engines and compared row by row with the files.

What a file says is read by pyarrow and json, which know nothing of the pipeline.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv

from local import ROOT, engines
from local.pipeline import Pipeline, Status

Row = dict[str, Any]

EXAMPLES = ROOT / "examples"
# By dataset: its files, the order in which they land, and the column that tells rows apart.
FILES = {
    "airlines": ["airlines.csv"],
    "airports": ["airports.csv"],
    "planes": ["planes.csv"],
    "weather": ["2013-01.csv"],
    "orders": ["2025-03-01.jsonl", "2025-03-02.jsonl"],
}
TABLES = [dataset for dataset in FILES if dataset != "orders"]
# How a reader of CSV must be told of what it would take for doubles.
DECIMALS = {"precip": pa.decimal128(5, 2), "pressure": pa.decimal128(6, 1)}
# Counted once, so that a file that lost rows would be noticed.
ROWS = {"airlines": 16, "airports": 1458, "planes": 3322, "weather": 2226}


def contract(dataset: str) -> Row:
    return json.loads((EXAMPLES / dataset / "contract.json").read_text())


def settings(dataset: str) -> Row:
    return contract(dataset)["x-sluicegate"]


def column_of(properties: Row, name: str) -> str:
    return properties[name].get("x-sluicegate", {}).get("name", name)


@pytest.fixture(scope="module")
def statuses(pipeline: Pipeline) -> dict[str, Status]:
    for dataset in FILES:
        pipeline.upload_contract(dataset, (EXAMPLES / dataset / "contract.json").read_bytes())
    for dataset, names in FILES.items():
        pipeline.wait_contract(dataset)
        for name in names:
            pipeline.upload(dataset, name, (EXAMPLES / dataset / name).read_bytes())
    return {dataset: pipeline.wait_settled(dataset, len(names)) for dataset, names in FILES.items()}


@pytest.fixture(scope="module")
def read(pipeline: Pipeline, statuses: object) -> Callable[[str, str], list[Row]]:
    """The rows of a dataset as an engine reads them, in the order of their key, without our columns."""

    def rows(engine: str, dataset: str) -> list[Row]:
        found = engines.ROWS[engine](pipeline.endpoint, pipeline.stack.lake_bucket_name, dataset)
        mine = [{name: value for name, value in row.items() if not name.startswith("_")} for row in found]
        return sorted(mine, key=lambda row: [row[name] for name in settings(dataset)["key"]])

    return rows


def source(dataset: str) -> pa.Table:
    """The file of a table, under the names of the contract's columns."""
    body = (EXAMPLES / dataset / FILES[dataset][0]).read_bytes()
    nulls = settings(dataset)["format"]["null_tokens"]
    options = csv.ConvertOptions(null_values=nulls, strings_can_be_null=True, column_types=DECIMALS)
    table = csv.read_csv(io.BytesIO(body), convert_options=options)
    return table.rename_columns([column_of(contract(dataset)["properties"], name) for name in table.column_names])


def source_orders() -> list[Row]:
    """The good orders as their rows in the table must be: times as such, decimals exact, absent the same as null."""
    bad = {(entry["file"], entry["row"]) for entry in planted()}
    good: list[Row] = []
    for name in FILES["orders"]:
        lines = (EXAMPLES / "orders" / name).read_bytes().splitlines()
        good += [json.loads(line, parse_float=Decimal) for n, line in enumerate(lines, 1) if (name, n) not in bad]
    for order in good:
        order["order_id"] = order.pop("id")
        order["placed_at"] = moment(order["placed_at"])
        order["shipped_at"] = moment(order["shipped_at"]) if order.get("shipped_at") else None
        order["lines"] = [{"discount": None, **line} for line in order["lines"]]
    return sorted(good, key=lambda order: order["order_id"])


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def planted() -> list[Row]:
    return json.loads((EXAMPLES / "orders" / "planted.json").read_text())


def test_everything_is_published(statuses: dict[str, Status]) -> None:
    for dataset, status in statuses.items():
        assert status.states["published"] == len(FILES[dataset]), dataset
    assert {dataset: statuses[dataset].rows["published"] for dataset in TABLES} == ROWS
    assert all(statuses[dataset].rows["quarantined"] == 0 for dataset in TABLES)
    assert statuses["orders"].rows["quarantined"] == len(planted())


@pytest.mark.parametrize("dataset", TABLES)
@pytest.mark.parametrize("engine", engines.ROWS)
def test_tables_are_the_files(read: Callable[[str, str], list[Row]], engine: str, dataset: str) -> None:
    found, want = read(engine, dataset), source(dataset)
    assert len(found) == want.num_rows
    for name in want.column_names:
        assert sum(row[name] is None for row in found) == want[name].null_count, name
    want_rows = sorted(want.to_pylist(), key=lambda row: [row[name] for name in settings(dataset)["key"]])
    assert list(found[0]) == want.column_names
    assert [(n, got, row) for n, (got, row) in enumerate(zip(found, want_rows)) if got != row][:3] == []


@pytest.mark.parametrize("dataset", TABLES)
def test_sums_are_the_files(pipeline: Pipeline, statuses: object, dataset: str) -> None:
    """By SQL, which may answer from statistics where reading rows does not."""
    want = source(dataset)
    numbers = [f.name for f in want.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type) or pa.types.is_decimal(f.type)]
    terms = ", ".join(["count(*)", *(f"sum({name}), count({name}), min({name}), max({name})" for name in numbers)])
    location = engines.root(pipeline.stack.lake_bucket_name, dataset)
    with engines.duckdb_connection(pipeline.endpoint) as connection:
        [(count, *figures)] = connection.execute(f"SELECT {terms} FROM iceberg_scan('{location}')").fetchall()
    assert count == want.num_rows
    for n, name in enumerate(numbers):
        total, filled, least, greatest = figures[4 * n : 4 * n + 4]
        bounds = pc.min_max(want[name]).as_py()
        assert (filled, least, greatest) == (count - want[name].null_count, bounds["min"], bounds["max"]), name
        # Sums of doubles depend on their order in the last digits; those of integers and decimals on nothing.
        exact = not pa.types.is_floating(want[name].type)
        sum_of = pc.sum(want[name]).as_py()
        assert total == (sum_of if exact else pytest.approx(sum_of, rel=1e-12)), name


def test_columns_are_as_the_contract_calls_them(pipeline: Pipeline, statuses: object) -> None:
    schema = engines.table(pipeline.endpoint, pipeline.stack.lake_bucket_name, "weather").schema()
    pressure, hour = schema.find_field("pressure"), schema.find_field("time_hour")
    assert (str(pressure.field_type), pressure.required, pressure.doc) == (
        "decimal(6, 1)",
        False,
        "Pressure of the air at the level of the sea. [mbar]",
    )
    assert (str(hour.field_type), hour.required) == ("timestamptz", True)
    assert str(schema.find_field("wind_direction").field_type) == "int"


@pytest.mark.parametrize("engine", engines.ROWS)
def test_orders_are_the_good_rows(read: Callable[[str, str], list[Row]], engine: str) -> None:
    found, want = read(engine, "orders"), source_orders()
    assert len(found) == len(want)
    assert [(n, got, row) for n, (got, row) in enumerate(zip(found, want)) if got != row][:3] == []
    # What the comparison above would not tell from something like it: exact decimals, and null structs that are null.
    assert all(type(line["price"]) is Decimal for row in found for line in row["lines"])
    nowhere = sum(row["shipping_address"] is None for row in found)
    assert 0 < nowhere < len(found)
    assert sum(row["total"] for row in found) == sum(Decimal(row["total"]) for row in want) > Decimal("1e9")


def test_orders_can_be_filtered_by_what_is_inside(pipeline: Pipeline, statuses: object) -> None:
    location = engines.root(pipeline.stack.lake_bucket_name, "orders")
    want = source_orders()
    with engines.duckdb_connection(pipeline.endpoint) as connection:
        query = f"SELECT shipping_address.country, count(*) FROM iceberg_scan('{location}') GROUP BY ALL"
        found = dict(connection.execute(query).fetchall())
        [(lines, value)] = connection.execute(
            f"SELECT count(*), sum(l.quantity * l.price - coalesce(l.discount, 0)) FROM (SELECT unnest(lines) l FROM iceberg_scan('{location}'))"
        ).fetchall()
    countries = [row["shipping_address"] and row["shipping_address"]["country"] for row in want]
    assert found == {country: countries.count(country) for country in set(countries)}
    assert lines == sum(len(row["lines"]) for row in want)
    # An order's total is what its lines come to, in cents.
    assert value == sum(Decimal(row["total"]) for row in want)


def test_orders_quarantine_is_what_was_planted(pipeline: Pipeline, statuses: dict[str, Status]) -> None:
    found = []
    for raw in sorted(statuses["orders"].raw, key=lambda raw: raw.source):
        body = (EXAMPLES / "orders" / raw.source).read_bytes()
        lines = body.splitlines(keepends=True)
        kept = [key for key in pipeline.keys(f"quarantine/orders/{raw.raw_id}/") if key.endswith(".rows")]
        said = pipeline.faults("orders", raw)
        assert b"".join(map(pipeline.read, sorted(kept))) == b"".join(lines[bad["row"] - 1] for bad in said)
        assert all(body[bad["offset"] :].startswith(lines[bad["row"] - 1]) for bad in said)
        for bad in said:
            found += [{"file": raw.source, "row": bad["row"], **{k: fault[k] for k in ("column", "pointer", "rule")}} for fault in bad["faults"]]
    assert found == planted()


def test_no_reason_tells_an_address(pipeline: Pipeline, statuses: dict[str, Status]) -> None:
    secret = b"secret.example"
    [raw] = [raw for raw in statuses["orders"].raw if raw.source == FILES["orders"][0]]
    assert secret in pipeline.raw_bytes("orders", raw), "the file must have what may not be told"
    [fault] = [f for bad in pipeline.faults("orders", raw) for f in bad["faults"] if f["column"] == "customer"]
    assert fault["pointer"] == "/customer/email" and fault["reason"]
    # The row as it came is in the quarantine's .rows; nowhere else may the value be, and in no line of a log.
    told = [key for key in pipeline.keys("quarantine/orders/") + pipeline.keys("staging/orders/") if not key.endswith(".rows")]
    assert len(told) >= 3
    assert [key for key in told if secret in pipeline.read(key) or b"mallory" in pipeline.read(key)] == []
    pipeline.wait_idle()
    lines = pipeline.log_lines()
    assert any('"RowsQuarantined":6' in line for line in lines), "the log must have the staging of that file"
    assert not any("secret.example" in line or "mallory" in line for line in lines)
    assert pipeline.given_up() == 0
