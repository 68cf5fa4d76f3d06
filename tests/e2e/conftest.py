"""One emulator and one deployed stack for the whole session; each test has a dataset of its own, so none disturbs another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local import emulator
from local.build import build
from local.deploy import deploy
from local.pipeline import Pipeline

ORDERS: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "orders",
    "type": "object",
    "x-sluicegate": {
        "version": "1.0.0",
        "team": {"name": "Shop", "contact": "shop@example.com"},
        "format": {"type": "csv", "delimiter": ",", "header": True, "null_tokens": [""]},
        "event_time": {"column": "at", "grain": "day", "max_ahead": "P1D"},
        "lateness": {"allowed": "P366D"},
        "bad_rows": {"max_fraction": 0.01},
        "reupload": "replace",
        "unknown_fields": "drop",
    },
    "required": ["id", "amount", "at"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "amount": {"type": "number", "minimum": 0},
        "note": {"type": ["string", "null"]},
        "at": {"type": "string", "format": "date-time"},
    },
}


def orders(first: int, count: int, amount: int = 1, day: str = "2024-05-01") -> bytes:
    """A file of orders with ids of its own."""
    lines = [f"{n},{amount},,{day}T12:00:00Z\n" for n in range(first, first + count)]
    return ("id,amount,note,at\n" + "".join(lines)).encode()


@pytest.fixture(scope="session")
def aws() -> Iterator[emulator.Emulator]:
    with emulator.running() as running:
        yield running


@pytest.fixture(scope="session")
def pipeline(aws: emulator.Emulator) -> Pipeline:
    built = build(with_tests=True)
    return Pipeline(aws.endpoint, deploy(aws.endpoint, built.functions), built.sluicegate)


_numbers = itertools.count(1)


@pytest.fixture
def dataset(pipeline: Pipeline) -> str:
    """The name of a dataset with the contract of ORDERS and nothing in it."""
    name = f"orders_{next(_numbers)}"
    pipeline.upload_contract(name, ORDERS)
    pipeline.wait_contract(name)
    return name


@pytest.fixture
def published(pipeline: Pipeline, dataset: str) -> Callable[[], list[tuple[int, float]]]:
    """Reads (id, amount) of every published row of `dataset`, in order, through pyiceberg."""
    from local import engines

    def read() -> list[tuple[int, float]]:
        rows = engines.rows(pipeline.endpoint, pipeline.stack.lake_bucket_name, dataset)
        return sorted((row["id"], row["amount"]) for row in rows)

    return read
