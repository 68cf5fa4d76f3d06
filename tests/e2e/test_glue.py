"""A stack with a Glue database: tables are found by name, at the snapshot that the pointer holds.

The reader is pyiceberg's own Glue catalog, which knows nothing but the database and the table's name. The emulator checks
the version of an update as Glue does; it does not check permissions: tests/template does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ORDERS, orders
from pyiceberg.catalog.glue import GlueCatalog

from local import KEY_ID, REGION, SECRET, emulator
from local.build import build
from local.deploy import client, deploy
from local.pipeline import Pipeline, requests

DATABASE = "analytics"
SECONDS = 60.0


@pytest.fixture(scope="module")
def glue(aws: emulator.Emulator) -> Any:
    return client("glue", aws.endpoint)


@pytest.fixture
def database(glue: Any) -> Iterator[str]:
    glue.create_database(DatabaseInput={"Name": DATABASE})
    yield DATABASE
    glue.delete_database(Name=DATABASE)


@pytest.fixture(scope="module")
def pipeline(aws: emulator.Emulator) -> Pipeline:
    built = build(with_tests=True)
    return Pipeline(aws.endpoint, deploy(aws.endpoint, built.functions, GlueDatabase=DATABASE), built.sluicegate)


def lands(pipeline: Pipeline, name: str) -> str:
    pipeline.upload_contract(name, ORDERS)
    pipeline.wait_contract(name)
    return name


def entry(glue: Any, name: str) -> dict[str, Any] | None:
    try:
        return glue.get_table(DatabaseName=DATABASE, Name=name)["Table"]
    except glue.exceptions.EntityNotFoundException:
        return None


def pointer(pipeline: Pipeline, name: str) -> str:
    """The metadata file that the pointer leads to."""
    file = pipeline.read(f"tables/{name}/metadata/version-hint.text").decode()
    return f"s3://{pipeline.stack.lake_bucket_name}/tables/{name}/metadata/{file}.metadata.json"


def wait_told(pipeline: Pipeline, glue: Any, name: str) -> dict[str, Any]:
    """Until Glue's entry is at the pointer. It is told after the swap, so a moment later."""
    deadline = time.monotonic() + SECONDS
    while True:
        found, wanted = entry(glue, name), pointer(pipeline, name)
        if found and found["Parameters"]["metadata_location"] == wanted:
            return found
        assert time.monotonic() < deadline, f"Glue is not at {wanted}: {found}"
        time.sleep(0.1)


def ids(pipeline: Pipeline, name: str) -> list[int]:
    """The ids of all rows, as an engine sees them that asks Glue where the table is."""
    catalog = GlueCatalog(
        "glue",
        **{
            "glue.endpoint": pipeline.endpoint, "glue.region": REGION, "glue.access-key-id": KEY_ID, "glue.secret-access-key": SECRET,
            "s3.endpoint": pipeline.endpoint, "s3.region": REGION, "s3.access-key-id": KEY_ID, "s3.secret-access-key": SECRET,
            "s3.force-virtual-addressing": "false",
        },
    )  # fmt: skip
    return sorted(catalog.load_table((DATABASE, name)).scan().to_arrow()["id"].to_pylist())


def failures(pipeline: Pipeline) -> int:
    return sum(summary.get("CatalogFailures", 0) for summary in pipeline.summaries(["promote"]))


def test_every_snapshot_is_found_by_name(pipeline: Pipeline, glue: Any, database: str) -> None:
    name = lands(pipeline, "by_name")
    pipeline.upload(name, "a.csv", orders(1, 3))
    pipeline.wait_settled(name, 1)
    first = wait_told(pipeline, glue, name)
    assert (first["TableType"], first["Parameters"]["table_type"]) == ("EXTERNAL_TABLE", "ICEBERG")
    assert first["StorageDescriptor"]["Location"] == f"s3://{pipeline.stack.lake_bucket_name}/tables/{name}"
    columns = {column["Name"]: column["Type"] for column in first["StorageDescriptor"]["Columns"]}
    assert columns == {
        "id": "bigint", "amount": "double", "note": "string", "at": "timestamp",
        "_raw_id": "string", "_raw_row": "bigint", "_landed_at": "timestamp",
    }  # fmt: skip
    assert ids(pipeline, name) == [1, 2, 3]

    # What others keep with the entry stays there.
    glue.update_table(
        DatabaseName=DATABASE,
        TableInput={
            **{key: first[key] for key in ("Name", "TableType", "StorageDescriptor")},
            "Description": "Orders, by name",
            "Parameters": {**first["Parameters"], "steward": "ann"},
        },
    )
    pipeline.upload(name, "a.csv", orders(10, 2))
    pipeline.wait_settled(name, 2)
    second = wait_told(pipeline, glue, name)
    assert second["Parameters"]["previous_metadata_location"] == first["Parameters"]["metadata_location"]
    assert (second["Description"], second["Parameters"]["steward"]) == ("Orders, by name", "ann")
    assert ids(pipeline, name) == [10, 11]
    assert failures(pipeline) == 0
    asked = requests(pipeline.summaries(["promote"]))
    assert (asked["glue:CreateTable"], asked["glue:UpdateTable"]) == (1, 1)


def test_a_database_that_is_missing_fails_no_message_and_is_made_up_for(pipeline: Pipeline, glue: Any) -> None:
    name, before = lands(pipeline, "made_up_for"), failures(pipeline)
    pipeline.upload(name, "a.csv", orders(1, 3))
    pipeline.wait_settled(name, 1)
    pipeline.wait_idle()
    assert failures(pipeline) > before
    assert pipeline.given_up() == 0 and entry(glue, name) is None
    assert any(DATABASE in line and "WARN" in line for line in pipeline.log_lines(["promote"]))

    glue.create_database(DatabaseInput={"Name": DATABASE})
    try:
        pipeline.upload(name, "b.csv", orders(10, 2))
        pipeline.wait_settled(name, 2)
        wait_told(pipeline, glue, name)
        assert ids(pipeline, name) == [1, 2, 3, 10, 11]
    finally:
        glue.delete_database(Name=DATABASE)


def test_without_the_parameter_glue_is_not_asked(aws: emulator.Emulator, glue: Any, database: str) -> None:
    built = build(with_tests=True)
    plain = Pipeline(aws.endpoint, deploy(aws.endpoint, built.functions), built.sluicegate)
    name = lands(plain, "plain")
    plain.upload(name, "a.csv", orders(1, 3))
    plain.wait_settled(name, 1)
    plain.wait_idle()
    assert requests(plain.summaries(["promote"]))["s3:PutObject"] > 0
    assert not [kind for kind in requests(plain.summaries(["promote"])) if kind.startswith("glue:")]
    assert glue.get_tables(DatabaseName=DATABASE)["TableList"] == []
