"""The ways a file can come: twice, out of order, corrected, before its contract, under a name nobody would choose, again."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from conftest import ORDERS, orders

from local.pipeline import Pipeline

Read = Callable[[], list[tuple[int, float]]]


def test_a_file_waits_for_its_contract(pipeline: Pipeline) -> None:
    pipeline.upload("early_birds", "a.csv", orders(1, 5))
    waiting = pipeline.wait("early_birds", lambda s: s.states.get("waiting") == 1, "the file waits")
    assert waiting.number == 0
    pipeline.upload_contract("early_birds", {**ORDERS, "title": "early_birds"})
    status = pipeline.wait("early_birds", lambda s: s.states.get("published") == 1, "the file is published")
    assert status.rows["published"] == 5


ODD_NAMES = [
    "with space.csv",
    "plus+sign.csv",
    "equals=sign&and=more.csv",
    "ünïcödé-日本語-🛶.csv",
    "percent%2Fliteral.csv",
    "percent/literal.csv",
    "percent%252Fliteral.csv",
    "date=2024-05-01/part 0+1.csv",
    "dots/../dots/./a.csv",
    "quote'\"back\\slash.csv",
    "tilde~star*paren(1).csv",
]


def test_odd_keys_arrive_right_and_apart(pipeline: Pipeline, dataset: str, published: Read) -> None:
    longest = "ü" * ((1024 - len(f"{dataset}/") - len(".csv")) // 2) + ".csv"
    longest = "x" * (1024 - len(f"{dataset}/{longest}".encode())) + longest
    assert len(f"{dataset}/{longest}".encode()) == 1024
    files = {name: orders(100 * n + 1, 3) for n, name in enumerate([*ODD_NAMES, longest])}
    for name, body in files.items():
        pipeline.upload(dataset, name, body)
    status = pipeline.wait_settled(dataset, len(files))
    assert status.states["published"] == len(files)
    assert len({raw.source for raw in status.raw}) == len(files)
    assert sorted(pipeline.raw_bytes(dataset, raw) for raw in status.raw) == sorted(files.values())
    assert published() == [(100 * n + i, 1) for n in range(len(files)) for i in (1, 2, 3)]


def test_the_same_file_again_changes_no_row(pipeline: Pipeline, dataset: str, published: Read) -> None:
    for _ in range(2):
        for n in range(3):
            pipeline.upload(dataset, f"{n}.csv", orders(100 * n + 1, 10))
        pipeline.wait_idle()
    status = pipeline.wait_settled(dataset, 6)
    assert (status.states["published"], status.states["superseded"]) == (3, 3)
    assert published() == [(100 * n + i, 1) for n in range(3) for i in range(1, 11)]


def test_duplicate_and_reordered_events(pipeline: Pipeline, dataset: str, published: Read) -> None:
    with pipeline.events_withheld():
        old = pipeline.upload(dataset, "a.csv", orders(1, 10, amount=1))
        new = pipeline.upload(dataset, "a.csv", orders(1, 10, amount=2))
        other = pipeline.upload(dataset, "b.csv", orders(101, 10))
        pipeline.deliver([new, new, other, old, new, old, other])
    pipeline.wait_idle()
    status = pipeline.wait_settled(dataset, 3)
    assert (status.landed, status.states["published"], status.states["superseded"]) == (3, 2, 1)
    assert published() == [*((n, 2) for n in range(1, 11)), *((n, 1) for n in range(101, 111))]


def test_a_corrected_file_replaces_its_own_rows_in_one_snapshot(pipeline: Pipeline, dataset: str, published: Read) -> None:
    for n in range(4):
        pipeline.upload(dataset, f"{n}.csv", orders(1000 * n + 1, 200))
    before = pipeline.wait_settled(dataset, 4)
    pipeline.wait_idle()
    rows = orders(2001, 200).splitlines(keepends=True)
    corrected = [row.replace(b",1,", b",7,", 1) for row in rows[1:101]]
    pipeline.upload(dataset, "2.csv", b"".join([rows[0], *corrected, *rows[101:-10]]))
    after = pipeline.wait_settled(dataset, 5)
    assert after.number == before.number + 1
    assert after.states["superseded"] == 1
    others = [(1000 * n + i, 1) for n in (0, 1, 3) for i in range(1, 201)]
    assert published() == sorted([*others, *((2000 + i, 7 if i <= 100 else 1) for i in range(1, 191))])


def test_replay_by_raw_id(pipeline: Pipeline, dataset: str, published: Read) -> None:
    pipeline.upload(dataset, "a.csv", orders(1, 10))
    pipeline.upload(dataset, "b.csv", orders(101, 10))
    before = pipeline.wait_settled(dataset, 2)
    pipeline.wait_idle()
    [raw] = before.of_source("a.csv")
    answer = pipeline.invoke("replay", {"dataset": dataset, "raw_ids": [raw.raw_id]})
    assert (answer["dataset"], answer["sent"]) == (dataset, 1)
    after = pipeline.wait(dataset, lambda s: s.number > before.number and not s.unsettled, "the replay is published")
    pipeline.wait_idle()
    assert pipeline.status(dataset).number == before.number + 1 == after.number
    assert after.states["published"] == 2
    assert published() == [*((n, 1) for n in range(1, 11)), *((n, 1) for n in range(101, 111))]


def test_replay_by_landing_date_through_its_queue(pipeline: Pipeline, dataset: str, published: Read) -> None:
    pipeline.upload(dataset, "a.csv", orders(1, 10))
    pipeline.upload(dataset, "b.csv", orders(101, 10))
    before = pipeline.wait_settled(dataset, 2)
    pipeline.wait_idle()
    # A day of margin: the test may run across midnight.
    today = datetime.now(timezone.utc).date()
    window = {"landed_from": str(today - timedelta(days=1)), "landed_to": str(today)}
    pipeline.send("replay", [json.dumps({"dataset": dataset, **window})], dataset)
    pipeline.wait(dataset, lambda s: s.number > before.number, "the replay is published")
    pipeline.wait_idle()
    status = pipeline.status(dataset)
    assert (status.states["published"], status.unsettled) == (2, 0)
    assert published() == [*((n, 1) for n in range(1, 11)), *((n, 1) for n in range(101, 111))]


def test_a_poison_message_dies_alone(pipeline: Pipeline, dataset: str, published: Read) -> None:
    poison = '{"v":1,"dataset":"no such thing'
    pipeline.upload(dataset, "before.csv", orders(1, 10))
    [raw] = pipeline.wait_settled(dataset, 1).raw
    again = {"v": 1, "dataset": dataset, "source": raw.source, "raw_id": raw.raw_id, "epoch": 0, "reason": "fresh", "hop": 0}
    # One try: the next one, half a minute later, would be the last of five elsewhere.
    with pipeline.tries("stage", 1):
        pipeline.send("stage", [json.dumps(again), poison, json.dumps(again)], dataset)
        pipeline.upload(dataset, "after.csv", orders(101, 10))
        dead = _await_dead_letter(pipeline)
    assert dead == poison
    status = pipeline.status(dataset)
    assert (status.states["published"], status.unsettled) == (2, 0)
    assert published() == [*((n, 1) for n in range(1, 11)), *((n, 1) for n in range(101, 111))]
    pipeline.wait_idle()
    assert pipeline.given_up() == 0


def _await_dead_letter(pipeline: Pipeline) -> str:
    """Takes the message out again: a dead-letter queue that is not empty fails the tests that come after."""
    url = pipeline.queue_url("stage_dlq")
    for _ in range(120):
        for message in pipeline.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", []):
            pipeline.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return message["Body"]
    raise AssertionError(f"no message in the dead-letter queue: {pipeline.depths()}")
