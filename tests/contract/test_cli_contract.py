"""`sluicegate contract`: drafts, examples, locks, differences and exports, of every contract in examples/."""

from __future__ import annotations

import io
import json
from csv import writer as csv_writer
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import DATA, Row, contract, path_of
from jsonschema import Draft7Validator, Draft201909Validator
from pyiceberg.schema import Schema
from test_export import errors, published

# infer


@pytest.mark.parametrize("dataset", DATA)
def test_drafts_are_contracts_of_their_data(run, tmp_path: Path, dataset: str) -> None:
    files = DATA[dataset]
    if dataset == "orders":
        # One of its rows is no JSON, and so nothing to learn from: that is said, with its place.
        refused = run("contract", "infer", "--dataset", dataset, *files)
        assert refused.returncode == 2 and f"{files[0]}: row 335: " in refused.stderr and refused.stdout == ""
        files = files[1:]
    drafted = run("contract", "infer", "--dataset", dataset, *files)
    assert drafted.returncode == 0, drafted.stderr
    path = tmp_path / "contract.json"
    path.write_text(drafted.stdout)
    assert run("contract", "lint", path).returncode == 0
    assert set(json.loads(drafted.stdout)["properties"]) >= set(contract(dataset)["properties"])
    done = run("check", "--json", "--contract", path, *files)
    assert [json.loads(line)["audit"]["broken"] for line in done.stdout.splitlines()] == [{}] * len(files)
    assert done.returncode == 0


def test_a_draft_of_standard_input_is_refused_and_not_empty(run) -> None:
    done = run("contract", "infer", "--dataset", "flights", "-", stdin=DATA["flights"][0].read_bytes())
    assert (done.returncode, done.stdout) == (2, "") and "instead of -" in done.stderr


# examples


class Number(str):
    """As it is written."""


def as_file(dataset: str, rows: list[str]) -> bytes:
    """Rows of JSON in the format of the dataset's files."""
    if contract(dataset)["x-sluicegate"]["format"]["type"] == "jsonl":
        return "".join(f"{row}\n" for row in rows).encode()
    out, names = io.StringIO(), list(contract(dataset)["properties"])
    to = csv_writer(out, lineterminator="\n")
    to.writerow(names)
    for row in rows:
        cells = json.loads(row, parse_int=Number, parse_float=Number)
        to.writerow(["" if cells.get(name) is None else cells[name] for name in names])
    return out.getvalue().encode()


@pytest.mark.parametrize("dataset", DATA)
def test_examples_are_what_they_say(run, check, dataset: str) -> None:
    command = ("contract", "examples", path_of(dataset), "--valid", 30, "--invalid", 60, "--seed", 7)
    made = run(*command)
    assert made.stdout == run(*command).stdout != run(*command[:-1], 8).stdout
    rows = [json.loads(line) for line in made.stdout.splitlines()]
    texts = [line.split('"row":', 1)[1][:-1] for line in made.stdout.splitlines()]
    valid = [text for row, text in zip(rows, texts) if row["valid"]]
    invalid = [(row, text) for row, text in zip(rows, texts) if not row["valid"]]
    assert len(valid) == 30 and len(invalid) >= 30, made.stderr
    report = check(path_of(dataset), as_file(dataset, valid))
    assert (report["audit"]["verdict"]["coverage"]["rows_accepted"], report["first_bad_rows"]) == (30, [])
    report = check(path_of(dataset), as_file(dataset, [text for _, text in invalid]))
    faults = {bad["row"]: {(fault["pointer"], fault["rule"]) for fault in bad["faults"]} for bad in report["first_bad_rows"]}
    missed = [(row, faults.get(n)) for n, (row, _) in enumerate(invalid, 1) if (row["at"], row["rule"]) not in faults.get(n, ())]
    assert missed == []
    assert len({(row["at"], row["rule"]) for row, _ in invalid}) >= 5


# lock, diff


def test_a_lock_holds_until_the_contract_says_something_else(run, tmp_path: Path) -> None:
    path, lock, orders = tmp_path / "contract.json", tmp_path / "contract.lock", contract("orders")
    lock.write_text(run("contract", "lock", path_of("orders")).stdout)

    def verify(document: Row) -> tuple[int, str]:
        path.write_text(json.dumps(document, indent=7))
        done = run("contract", "verify", path, lock)
        return done.returncode, done.stdout + done.stderr

    def turned(value: Any) -> Any:
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    settings = orders["x-sluicegate"]
    assert verify(orders)[0] == 0
    # The order of the properties is that of the columns; that of all other keys says nothing.
    assert verify({**turned({k: v for k, v in orders.items() if k not in ("properties", "$defs")}), **orders})[0] == 0
    code, said = verify({**orders, "description": "Something else."})
    assert code == 1 and "raise the version" in said
    code, said = verify({**orders, "x-sluicegate": {**settings, "examples": settings["examples"][:1]}})
    assert code == 1 and "examples changed" in said
    code, said = verify({**orders, "x-sluicegate": {**settings, "version": "1.0.1"}})
    assert code == 1 and "1.0.1" in said
    assert verify({**orders, "type": "array"})[0] == 2
    lock.write_text(lock.read_text()[:50])
    assert verify(orders)[0] == 2


def test_diff_says_whether_the_new_one_may_follow(run, tmp_path: Path) -> None:
    def diff(version: str, settings: Row | None = None, **properties: Any) -> tuple[int, Row]:
        new = contract("airports")
        new["x-sluicegate"] |= {"version": version, **(settings or {})}
        new["properties"] |= properties
        path = tmp_path / "new.json"
        path.write_text(json.dumps(new))
        done = run("contract", "diff", path_of("airports"), path, "--json")
        return done.returncode, json.loads(done.stdout)

    runways = {"runways": {"type": "integer", "minimum": 0}}
    narrower = {"tz": {**contract("airports")["properties"]["tz"], "maximum": 12}}
    code, report = diff("1.0.0")
    assert (code, report["compatibility"], report["changes"]) == (0, "FULL", [])
    code, report = diff("1.1.0", **runways)
    assert (code, report["compatibility"], report["changes"][0]["kind"], report["refused"]) == (0, "FULL", "added", None)
    code, report = diff("1.1.0", **narrower)
    assert (code, report["compatibility"], report["changes"][0]["breaking"]) == (1, "FORWARD", True)
    assert diff("2.0.0", **narrower)[0] == 1 and diff("1.1.0", {"breaking": "We must."}, **narrower)[0] == 1
    assert diff("2.0.0", {"breaking": "We must."}, **narrower)[0] == 0
    assert run("contract", "diff", path_of("airports"), DATA["airports"][0]).returncode == 2


# export

TOOLS = {
    "odcs": ("datacontract-cli", "datacontract/schemas/odcs-3.1.0.schema.json", Draft201909Validator),
    "dbt": ("dbt-core", "dbt/jsonschemas/resources/latest.json", Draft7Validator),
}


@pytest.mark.parametrize("dataset", DATA)
def test_every_example_is_exported(run, dataset: str) -> None:
    def export(target: str) -> str:
        done = run("contract", "export", path_of(dataset), "--to", target)
        assert done.returncode == 0, done.stderr
        assert all(line.startswith("not said: ") for line in done.stderr.splitlines())
        return done.stdout

    properties = contract(dataset)["properties"]
    columns = [said.get("x-sluicegate", {}).get("name", name) for name, said in properties.items()]
    for target, tool in TOOLS.items():
        assert errors(published(*tool), yaml.safe_load(export(target))) == [], target
    schema = Schema.model_validate_json(export("iceberg"))
    assert [field.name for field in schema.fields if not field.name.startswith("_")] == columns
    page = export("markdown")
    assert [column for column in columns if f"`{column}`" not in page] == []
