"""Contracts that change while files arrive: every engine reads old and new rows, and what would break somebody is refused."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from local import EXAMPLE, ROOT, engines, example, hostile
from local.pipeline import Pipeline

Row = dict[str, Any]

ORDERS = json.loads((ROOT / "examples/orders/contract.json").read_text())


def changed(contract: Row, version: str, **settings: Any) -> Row:
    """A copy to change further, under another version."""
    new = copy.deepcopy(contract)
    new["x-sluicegate"] |= {"version": version, **settings}
    return new


def rows(pipeline: Pipeline, engine: str, dataset: str) -> list[Row]:
    return engines.ROWS[engine](pipeline.endpoint, pipeline.stack.lake_bucket_name, dataset)


def counted(pipeline: Pipeline, metric: str) -> int:
    """A metric over all invocations of land so far."""
    return sum(summary.get(metric, 0) for summary in pipeline.summaries(["land"]))


# A flight's gate.

FLIGHTS = example.contract()
GATES = changed(FLIGHTS, "1.1.0")
GATES["properties"]["gate"] = {"type": ["string", "null"], "description": "Gate of departure.", "pattern": "^[A-Z][0-9]{1,2}$"}


def flights(day: int, gates: bool) -> bytes:
    """The first fifty of a day. Every third has no gate, where there are gates."""
    source = (EXAMPLE / f"2013-01-{day:02}.csv").read_text().splitlines()[:51]
    if gates:
        source = [f"{line},{'gate' if n == 0 else gate(n)}" for n, line in enumerate(source)]
    return "".join(f"{line}\n" for line in source).encode()


def gate(row: int) -> str:
    return "NA" if row % 3 == 0 else f"B{row}"


# By name of the file: the day, whether it has gates, and whether the contract knew of gates when it was staged.
PLAIN_EARLY, GATED_EARLY = ("plain-early.csv", 1, False, False), ("gated-early.csv", 2, True, False)
PLAIN_LATER, GATED_LATER = ("plain-later.csv", 3, False, True), ("gated-later.csv", 4, True, True)
PLAIN_LAST, GATED_LAST = ("plain-last.csv", 6, False, True), ("gated-last.csv", 7, True, True)


@pytest.fixture(scope="module")
def gates(pipeline: Pipeline) -> str:
    """Files with and without gates, before v1.1.0, after it, and after a v1.2.0 was refused."""
    dataset = "evolving_flights"
    assert pipeline.land_contract(dataset, FLIGHTS) is None
    for name, day, gated, _ in (PLAIN_EARLY, GATED_EARLY):
        pipeline.upload(dataset, name, flights(day, gated))
    pipeline.wait_settled(dataset, 2)
    assert pipeline.land_contract(dataset, GATES) is None
    for name, day, gated, _ in (PLAIN_LATER, GATED_LATER):
        pipeline.upload(dataset, name, flights(day, gated))
    status = pipeline.wait_settled(dataset, 4)
    assert status.states["published"] == 4
    return dataset


def expect_gates(pipeline: Pipeline, dataset: str, files: list[tuple[str, int, bool, bool]]) -> None:
    """What every engine must read, as (raw id, row, tail number, gate)."""
    status = pipeline.status(dataset)
    want = []
    for name, day, gated, known in files:
        raw = status.published(name)
        for n, row in enumerate(csv.DictReader(io.StringIO(flights(day, gated).decode())), 1):
            tail, place = row["tailnum"], row.get("gate") if known else None
            want.append((raw.raw_id, n, tail if tail != "NA" else None, place if place != "NA" else None))
    assert {entry[3] for entry in want} > {None, "B1", "B50"}
    for engine in engines.ROWS:
        found = [(r["_raw_id"], r["_raw_row"], r["tailnum"], r["gate"]) for r in rows(pipeline, engine, dataset)]
        assert sorted(found, key=lambda row: row[:2]) == sorted(want, key=lambda row: row[:2]), engine


def test_old_rows_are_null_and_new_ones_have_gates(pipeline: Pipeline, gates: str) -> None:
    expect_gates(pipeline, gates, [PLAIN_EARLY, GATED_EARLY, PLAIN_LATER, GATED_LATER])
    # A filter is answered from the files' statistics first, and those of old files know nothing of gates.
    of_a_gate = [place for place in map(gate, range(1, 51)) if place != "NA" and place > "B4"]
    location = engines.root(pipeline.stack.lake_bucket_name, gates)
    with engines.duckdb_connection(pipeline.endpoint) as connection:
        query = f"SELECT count(*), count(gate), max(gate) FROM iceberg_scan('{location}') WHERE gate IS NULL OR gate > 'B4'"
        assert connection.execute(query).fetchall() == [(150 + 16 + len(of_a_gate), len(of_a_gate), max(of_a_gate))]
    table = engines.table(pipeline.endpoint, pipeline.stack.lake_bucket_name, gates)
    assert table.scan(row_filter="gate > 'B4'").to_arrow()["gate"].to_pylist() == of_a_gate
    assert table.scan(row_filter="gate is null").to_arrow().num_rows == 150 + 16


def without(name: str) -> Row:
    """A version that takes a promise away: each is breaking, and none says so."""
    new = changed(GATES, "1.2.0")
    if name == "required":
        new["required"].append("terminal")
        new["properties"]["terminal"] = {"type": "string"}
    else:
        new["properties"]["distance"]["maximum"] = 3000
    return new


BREAKING = {"required": ("terminal", "added_required"), "narrowed": ("distance", "narrowed")}


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_version_is_refused(pipeline: Pipeline, gates: str, name: str) -> None:
    before = counted(pipeline, "ContractsRefused"), counted(pipeline, "ContractsLanded")
    report = pipeline.land_contract(gates, without(name))
    assert report and (report["dataset"], report["findings"]) == (gates, [])
    assert [(change["at"], change["kind"]) for change in report["breaking"]] == [BREAKING[name]]
    assert BREAKING[name][0] in report["why"] and "2.0.0" in report["why"]
    # The log line comes after the report.
    pipeline.wait_until(lambda: counted(pipeline, "ContractsRefused") == before[0] + 1, "the refusal is counted")
    assert counted(pipeline, "ContractsLanded") == before[1]
    assert pipeline.current_version(gates) == "1.1.0"


def test_what_lands_after_a_refusal_is_held_against_the_old_version(pipeline: Pipeline, gates: str) -> None:
    for name, day, gated, _ in (PLAIN_LAST, GATED_LAST):
        pipeline.upload(gates, name, flights(day, gated))
    assert pipeline.wait_settled(gates, 6).states["published"] == 6
    expect_gates(pipeline, gates, [PLAIN_EARLY, GATED_EARLY, PLAIN_LATER, GATED_LATER, PLAIN_LAST, GATED_LAST])


def test_a_higher_major_version_that_says_why_is_taken(pipeline: Pipeline, gates: str) -> None:
    said = without("narrowed")
    said["x-sluicegate"]["version"] = "2.0.0"
    assert pipeline.land_contract(gates, said), "it is higher, but does not say why"
    said["x-sluicegate"]["breaking"] = "Nothing flies further from here than 3000 miles."
    assert pipeline.land_contract(gates, said) is None
    assert pipeline.current_version(gates) == "2.0.0"
    # Staged again under it, the early file has the gates that the first version dropped.
    raw = pipeline.status(gates).published(GATED_EARLY[0])
    number = pipeline.status(gates).number
    assert pipeline.invoke("replay", {"dataset": gates, "raw_ids": [raw.raw_id]})["sent"] == 1
    pipeline.wait(gates, lambda s: s.number > number and not s.unsettled, "the replay is published")
    known = (*GATED_EARLY[:3], True)
    expect_gates(pipeline, gates, [PLAIN_EARLY, known, PLAIN_LATER, GATED_LATER, PLAIN_LAST, GATED_LAST])


# A field inside the items of a list.


def order_lines(day: str, first: int, count: int, **fields: Any) -> bytes:
    """Rows of an example file, from `first`, with more fields in every line of an order."""
    source = (ROOT / f"examples/orders/{day}.jsonl").read_bytes().splitlines()[first : first + count]
    made = [json.loads(row) for row in source]
    for order in made:
        order["lines"] = [{**line, **fields} for line in order["lines"]]
    return "".join(f"{json.dumps(order)}\n" for order in made).encode()


def test_a_field_inside_a_list_is_null_in_old_rows(pipeline: Pipeline) -> None:
    dataset = "evolving_orders"
    taxed = changed(ORDERS, "1.1.0")
    tax = {"type": "number", "minimum": 0, "x-sluicegate": {"logicalType": "decimal(4,3)"}}
    # In front of the others: by position, old rows would be read wrong.
    line = taxed["$defs"]["line"]
    line["properties"] = {"tax": tax, **line["properties"]}
    day = "2025-03-01"
    assert pipeline.land_contract(dataset, ORDERS) is None
    pipeline.upload(dataset, "old.jsonl", order_lines(day, 0, 20))
    pipeline.upload(dataset, "ahead.jsonl", order_lines(day, 20, 20, tax=0.19))
    pipeline.wait_settled(dataset, 2)
    assert pipeline.land_contract(dataset, taxed) is None
    pipeline.upload(dataset, "new.jsonl", order_lines(day, 40, 20, tax=0.075))
    pipeline.upload(dataset, "behind.jsonl", order_lines(day, 100, 20))
    status = pipeline.wait_settled(dataset, 4)
    assert (status.states["published"], status.rows["quarantined"]) == (4, 0)
    want = {"old.jsonl": None, "ahead.jsonl": None, "new.jsonl": Decimal("0.075"), "behind.jsonl": None}
    sources = {name: order_lines(day, first, 20).splitlines() for name, first in zip(want, (0, 20, 40, 100))}
    names = {status.published(name).raw_id: name for name in want}
    for engine in ("pyiceberg", "DuckDB"):
        found = rows(pipeline, engine, dataset)
        assert len(found) == 80, engine
        for row in found:
            name = names[row["_raw_id"]]
            source = json.loads(sources[name][row["_raw_row"] - 1], parse_float=Decimal)
            lines = [{"tax": want[name], "discount": None, **line} for line in source["lines"]]
            assert row["lines"] == lines, (engine, name)
            # Until the contract knew it, it was kept aside.
            extra = json.loads(row["_extra"]) if row["_extra"] else None
            assert extra == ({f"lines/{n}/tax": 0.19 for n in range(len(lines))} if name == "ahead.jsonl" else None), engine


# Fields that nobody has described.


def test_unknown_fields_are_kept_proposed_and_then_columns(pipeline: Pipeline, tmp_path: Path) -> None:
    dataset, day = "growing_orders", "2025-03-02"
    assert pipeline.land_contract(dataset, ORDERS) is None
    body = [json.loads(row) for row in order_lines(day, 0, 40).splitlines()]
    for n, order in enumerate(body):
        order["gift"] = n % 2 == 0
        order["customer"]["since"] = "2024-05-01"
    upload = gzip.compress("".join(f"{json.dumps(order)}\n" for order in body).encode())
    pipeline.upload(dataset, "a.jsonl.gz", upload)
    pipeline.wait_settled(dataset, 1)
    for engine in engines.ROWS:
        extras = {row["_raw_row"]: json.loads(row["_extra"]) for row in rows(pipeline, engine, dataset)}
        assert extras == {n + 1: {"gift": n % 2 == 0, "customer/since": "2024-05-01"} for n in range(40)}, engine

    lake = pipeline.stack.lake_bucket_name
    suggested = pipeline.command("contract", "suggest", "--dataset", dataset, "--lake", lake)
    assert suggested.returncode == 0, suggested.stderr
    assert "/gift" in suggested.stdout and "/customer/since" in suggested.stdout and "40 rows" in suggested.stdout
    document = pipeline.command("contract", "suggest", "--dataset", dataset, "--lake", lake, "--document")
    amended = json.loads(document.stdout)
    assert amended["properties"]["gift"]["type"] == "boolean"
    assert amended["properties"]["customer"]["properties"]["since"]["format"] == "date"
    assert amended["x-sluicegate"]["version"] == "1.1.0"
    path = tmp_path / "contract.json"
    path.write_text(document.stdout)
    published = pipeline.command("contract", "publish", str(path), "--dataset", dataset)
    assert published.returncode == 0 and "1.1.0 is current" in published.stdout, (published.stdout, published.stderr)
    assert pipeline.current_version(dataset) == "1.1.0"

    pipeline.upload(dataset, "b.jsonl.gz", upload)
    pipeline.wait_settled(dataset, 2)
    for engine in engines.ROWS:
        found = rows(pipeline, engine, dataset)
        gifts = sorted((row["_raw_row"], str(row["gift"]), str(row["customer"]["since"]), row["_extra"] is None) for row in found)
        new = [(n + 1, str(n % 2 == 0), "2024-05-01", True) for n in range(40)]
        assert gifts == sorted([*new, *((n + 1, "None", "None", False) for n in range(40))]), engine

    # The same document again is no change, and what would be refused is said before it is uploaded.
    again = pipeline.command("contract", "publish", str(path), "--dataset", dataset)
    assert again.returncode == 0 and "current already" in again.stdout
    path.write_text(json.dumps(changed(ORDERS, "1.2.0")))
    broken = pipeline.command("contract", "publish", str(path), "--dataset", dataset)
    assert broken.returncode == 1 and broken.stdout.startswith("refused:"), broken.stdout
    assert pipeline.keys(f"contracts/{dataset}/refused/") == []


# Documents that nobody means well with.


def test_hostile_contracts_are_refused_and_the_old_one_stays(pipeline: Pipeline) -> None:
    dataset = "besieged"
    linear = {**ORDERS, "title": dataset}
    linear["properties"] = {**ORDERS["properties"], "note": {"type": "string", "pattern": "^(a+)+$"}}
    assert pipeline.land_contract(dataset, linear) is None
    before, attacks = counted(pipeline, "ContractsRefused"), hostile.documents()
    for attack in attacks:
        report = pipeline.land_contract(dataset, attack.body)
        assert report, attack.name
        # What is too large is not even read, so that it has no findings.
        found = [(finding["pointer"], finding["message"]) for finding in report["findings"]] or [("", report["why"])]
        assert found[0][0] == attack.pointer and attack.word in found[0][1], (attack.name, found[:3])
        assert len(json.dumps(report)) < 100_000, attack.name
    pipeline.wait_until(lambda: counted(pipeline, "ContractsRefused") == before + len(attacks), "the refusals are counted")
    assert pipeline.current_version(dataset) == "1.0.0"
    # It still works: a note that a backtracking matcher would not come back from is bad, its neighbour is good.
    good, bad = (json.loads(row) for row in order_lines("2025-03-02", 0, 2).splitlines())
    body = [{**good, "note": "a" * 30_000}, {**bad, "note": "a" * 30_000 + "!"}, *(json.loads(r) for r in order_lines("2025-03-02", 2, 90).splitlines())]
    pipeline.upload(dataset, "a.jsonl", "".join(f"{json.dumps(row)}\n" for row in body).encode())
    [raw] = pipeline.wait_settled(dataset, 1).raw
    assert (raw.state, raw.rows, raw.quarantined) == ("published", 91, 1)
    [entry] = pipeline.faults(dataset, raw)
    assert [(fault["pointer"], fault["rule"]) for fault in entry["faults"]] == [("/note", "pattern")]
    assert len(json.dumps(entry)) < 2_000
    pipeline.wait_idle()
    assert pipeline.given_up() == 0
