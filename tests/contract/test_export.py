"""What is exported is what other tools read, and the schema for editors is of one mind with the linter.

The golden files are written and compared by the Rust tests of `shared/contract/src/export`; here they are held against
the schemas that the tools publish, as PyPI has them: datacontract-cli for the Open Data Contract Standard, dbt-core for
dbt. A check that could not fail would prove nothing: each is run against documents that it must refuse.
"""

import copy
import json
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator, Draft201909Validator, Draft202012Validator
from jsonschema.protocols import Validator
from markdown_it import MarkdownIt
from pyiceberg.schema import Schema

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/contract/golden"
CONTRACTS = {"flights": ROOT / "examples/flights/contract.json", "orders": GOLDEN / "orders.contract.json"}
DATASETS = sorted(CONTRACTS)
VARIANTS = json.loads((GOLDEN / "variants.json").read_text())


def contract(dataset: str) -> dict:
    return json.loads(CONTRACTS[dataset].read_text())


def published(package: str, path: str, validator: type[Validator]) -> Validator:
    """The validator of a schema that a package brings. The package is not imported, so that it needs no others."""
    schema = json.loads(Path(distribution(package).locate_file(path)).read_text())
    return validator(schema)


@pytest.fixture(scope="module")
def editors() -> Validator:
    schema = json.loads((ROOT / "docs/x-sluicegate.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.fixture(scope="module")
def odcs() -> Validator:
    return published("datacontract-cli", "datacontract/schemas/odcs-3.1.0.schema.json", Draft201909Validator)


@pytest.fixture(scope="module")
def dbt() -> Validator:
    return published("dbt-core", "dbt/jsonschemas/resources/latest.json", Draft7Validator)


def errors(validator: Validator, document: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def changed(document: dict, variant: dict) -> dict:
    """With one place set, or removed."""
    document = copy.deepcopy(document)
    *parents, last = variant["at"].split("/")[1:]
    place = document
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    if "set" in variant:
        place[last] = variant["set"]
    else:
        del place[last]
    return document


# The schema for editors. The linter's verdicts on the same variants are in shared/contract/src/export/mod.rs.


@pytest.mark.parametrize("dataset", DATASETS)
def test_editors_accept_contracts(editors, dataset):
    assert errors(editors, contract(dataset)) == []


@pytest.mark.parametrize("variant", VARIANTS["accepted"], ids=lambda v: v["why"])
def test_editors_accept(editors, variant):
    assert errors(editors, changed(contract("orders"), variant)) == []


@pytest.mark.parametrize("variant", VARIANTS["refused"], ids=lambda v: v["why"])
def test_editors_refuse(editors, variant):
    assert errors(editors, changed(contract("orders"), variant)) != []


def test_editors_explain_every_key():
    """Whatever an editor offers has a title and a description, its own or what it refers to."""
    schema = json.loads((ROOT / "docs/x-sluicegate.schema.json").read_text())

    def settings(node: dict, at: str):
        for name, inner in node.get("properties", {}).items():
            yield f"{at}/{name}", inner
            yield from settings(inner, f"{at}/{name}")
            yield from settings(inner.get("items", {}), f"{at}/{name}/items")

    column = schema["$defs"]["subschema"]["properties"]["x-sluicegate"]
    keys = [*settings(schema["$defs"]["settings"], ""), *settings(column, "column")]
    keys += [*settings(schema["$defs"]["metric"], "metric"), *settings(schema["$defs"]["audit"], "audit")]
    assert len(keys) > 40
    assert [at for at, node in keys if not (node.get("title") and node.get("description"))] == []


# Open Data Contract Standard.


def load_odcs(dataset: str) -> dict:
    text = (GOLDEN / f"{dataset}.odcs.json").read_text()
    document = json.loads(text)
    assert yaml.safe_load(text) == document, "JSON that is no YAML"
    return document


@pytest.mark.parametrize("dataset", DATASETS)
def test_odcs_is_valid(odcs, dataset):
    assert errors(odcs, load_odcs(dataset)) == []


@pytest.mark.parametrize(
    "variant",
    [
        {"at": "/status"},
        {"at": "/kind", "set": "Contract"},
        {"at": "/owner", "set": "me"},
        {"at": "/schema/0/properties/0/logicalType", "set": "long"},
        {"at": "/schema/0/properties/4/properties/0/logicalTypeOptions/format", "set": "int64"},
        {"at": "/schema/0/properties/5/items/unit", "set": "EUR"},
        {"at": "/schema/0/properties/2/quality/0/mustBe"},
        {"at": "/slaProperties/0/value"},
    ],
    ids=lambda v: v["at"],
)
def test_odcs_would_be_refused(odcs, variant):
    assert errors(odcs, changed(load_odcs("orders"), variant)) != []


def test_odcs_says_what_the_contract_says():
    document = load_odcs("orders")
    properties = {p["name"]: p for p in document["schema"][0]["properties"]}
    assert properties["orderId"]["physicalName"] == "order_id"
    assert properties["orderId"]["primaryKey"] and properties["orderId"]["unique"]
    price = next(p for p in properties["lines"]["items"]["properties"] if p["name"] == "price")
    assert (price["physicalType"], price["logicalTypeOptions"]) == ("decimal(12, 2)", {"minimum": 0})
    assert price["customProperties"] == [{"property": "unit", "value": "EUR"}]
    email = next(p for p in properties["customer"]["properties"] if p["name"] == "email")
    assert email["classification"] == "pii"
    levels = {s["property"]: (s["value"], s["unit"]) for s in document["slaProperties"]}
    assert levels == {"freshness": (1, "days"), "lateness": (36, "hours")}


# dbt.


def load_dbt(dataset: str) -> dict:
    return yaml.safe_load((GOLDEN / f"{dataset}.dbt.yml").read_text())


@pytest.mark.parametrize("dataset", DATASETS)
def test_dbt_is_valid(dbt, dataset):
    assert errors(dbt, load_dbt(dataset)) == []


@pytest.mark.parametrize(
    "variant",
    [
        {"at": "/sources/0/tables/0/freshness", "set": {}},
        {"at": "/sources/0/tables/0/config/freshness/warn_after/period", "set": "week"},
        {"at": "/sources/0/tables/0/columns/0/meta", "set": {}},
        {"at": "/models/0/config/contract/enforced", "set": 1},
        {"at": "/models/0/columns/0/constraints", "set": [{"type": "notnull"}]},
        {"at": "/models/0/name"},
    ],
    ids=lambda v: v["at"],
)
def test_dbt_would_be_refused(dbt, variant):
    assert errors(dbt, changed(load_dbt("orders"), variant)) != []


def test_dbt_says_what_the_contract_says():
    document = load_dbt("orders")
    table, model = document["sources"][0]["tables"][0], document["models"][0]
    columns = {c["name"]: c for c in table["columns"]}
    assert columns["order_id"]["data_tests"] == ["not_null", "unique"]
    accepted = columns["status"]["data_tests"][1]["accepted_values"]
    assert accepted == {"arguments": {"values": ["placed", "sent", "cancelled"]}}
    assert table["config"]["loaded_at_field"] == "_landed_at"
    assert table["config"]["freshness"]["error_after"] == {"count": 1, "period": "day"}
    email = next(f for f in columns["customer"]["config"]["meta"]["fields"] if f["name"] == "email")
    assert email["classification"] == "pii"
    assert model["config"]["contract"] == {"enforced": True}
    assert [(c["name"], c["data_type"]) for c in model["columns"]] == [(c["name"], c["data_type"]) for c in table["columns"]]


# Iceberg, and the page.


@pytest.mark.parametrize("dataset", DATASETS)
def test_iceberg_reads_the_schema(dataset):
    schema = Schema.model_validate_json((GOLDEN / f"{dataset}.iceberg.json").read_text())
    assert len(schema.field_ids) == len(set(schema.field_ids))
    assert schema.find_field("_landed_at").field_id == 3


def test_iceberg_has_the_nested_columns():
    schema = Schema.model_validate_json((GOLDEN / "orders.iceberg.json").read_text())
    assert schema.identifier_field_names() == {"order_id"}
    price = schema.find_field("lines.element.price")
    assert (str(price.field_type), price.required, price.doc) == ("decimal(12, 2)", True, "Of one of it, with tax. [EUR]")
    assert not schema.find_field("customer.address").required
    assert str(schema.find_field("channel").field_type) == "string"


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_page_is_a_table_of_all_columns(dataset):
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse((GOLDEN / f"{dataset}.md").read_text())
    rows = sum(token.type == "tr_open" for token in tokens) - 1
    cells = sum(token.type == "td_open" for token in tokens)
    assert rows > len(contract(dataset)["properties"]) and cells == 6 * rows
    assert not any(token.type.startswith("html") for token in tokens)
