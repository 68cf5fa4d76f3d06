"""What people see: one file's story, a lake's state, and messages that were given up, why, and again once the cause is gone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import Any

from conftest import ORDERS, orders

from local.pipeline import Pipeline

# `make test` takes fewer than the thousand that it was shown with.
FILES = int(os.environ.get("SLUICEGATE_POISON_FILES", "100"))
POISON = 10


def ran(pipeline: Pipeline, *arguments: str, code: int = 0) -> str:
    done = pipeline.command(*arguments, "--stack", pipeline.stack.name)
    assert done.returncode == code, done
    return done.stdout


def lines(pipeline: Pipeline, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran(pipeline, *arguments, "--json").splitlines()]


def on_a_terminal(pipeline: Pipeline, *arguments: str) -> str:
    """What a command writes where somebody watches: util-linux's `script` is not everywhere, a pseudo-terminal is."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run([str(pipeline.sluicegate), *arguments], env=pipeline.environment, stdout=theirs, timeout=30)
        assert done.returncode == 0
        return os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_poison_messages_cost_only_themselves_and_are_redriven(pipeline: Pipeline, dataset: str) -> None:
    spoilt = f"{dataset}_spoilt"
    pipeline.upload_contract(spoilt, ORDERS)
    pipeline.wait_contract(spoilt)
    key = f"contracts/{spoilt}/{pipeline.current_version(spoilt)}.json"
    version, bucket = pipeline.read(key), pipeline.stack.lake_bucket_name
    pipeline.s3.delete_object(Bucket=bucket, Key=key)
    every = FILES // POISON
    # One try, so that nothing is tried again but half a minute later, when it is given up.
    with pipeline.tries("stage", 1):
        for n in range(FILES):
            pipeline.upload(spoilt if n % every == 0 else dataset, f"{n}.csv", orders(10 * n + 1, 1))
        pipeline.wait_until(lambda: pipeline.status(dataset).states["published"] == FILES - POISON, "the good ones are published")
        pipeline.wait_until(lambda: pipeline.depths()["stage_dlq"] == POISON, "the others are given up")
    status = pipeline.status(spoilt)
    assert (status.landed, status.unsettled) == (POISON, POISON)
    overview = ran(pipeline, "status")
    assert f"given up: {POISON} of stage" in overview and f"{spoilt} cannot be read: {key} is absent" in overview

    letters = lines(pipeline, "dlq", "list", "stage")
    assert sorted(letter["raw_id"] for letter in letters) == sorted(raw.raw_id for raw in status.raw)
    assert all(key in letter["reason"] and letter["dataset"] == spoilt for letter in letters)
    assert f"stage-dlq: {POISON} messages" in ran(pipeline, "dlq", "list")
    one = letters[0]
    told = json.loads(ran(pipeline, "why", f"{spoilt}/{one['file']}", "--json"))["versions"][0]
    assert (told["state"], [given_up["message_id"] for given_up in told["given_up"]]) == ("pending", [one["message_id"]])
    assert f"sluicegate dlq show stage-dlq {one['message_id']}" in told["next"][0]["commands"]
    assert json.loads(ran(pipeline, "dlq", "show", "stage", one["message_id"], "--payload"))["raw_id"] == one["raw_id"]

    pipeline.s3.put_object(Bucket=bucket, Key=key, Body=version)
    assert "nothing stands in its way now" in ran(pipeline, "dlq", "show", "stage", one["message_id"])
    assert ran(pipeline, "dlq", "redrive", "stage", one["message_id"]).startswith("1 redriven")
    assert "list it again" in ran(pipeline, "dlq", "redrive", "stage", one["message_id"], code=1)
    redriven = ran(pipeline, "dlq", "redrive", "stage", "--dataset", spoilt, "--rate", "100")
    assert redriven == f"{POISON - 1} redriven, 0 left in stage-dlq\n"
    assert ran(pipeline, "dlq", "redrive", "stage", "--all") == "0 redriven, 0 left in stage-dlq\n"
    pipeline.wait(spoilt, lambda s: s.states["published"] == POISON, "what was redriven is published")
    pipeline.wait_idle()
    assert pipeline.status(dataset).states["published"] == FILES - POISON
    assert pipeline.given_up() == 0


def test_what_cannot_be_read_is_dropped_and_printed(pipeline: Pipeline, dataset: str) -> None:
    body = '{"v":1,"dataset":"no such thing'
    pipeline.send("promote_dlq", [body], dataset)
    [letter] = lines(pipeline, "dlq", "list", "promote")
    assert letter["reason"].startswith("message cannot be read: EOF")
    command = letter["next"].partition("sluicegate ")[2].split()
    assert ran(pipeline, *command) == f"{body}\n1 dropped, 0 left in promote-dlq\n"
    assert lines(pipeline, "dlq", "list", "promote") == []


def test_a_failed_event_says_why_and_is_handled_again(pipeline: Pipeline, dataset: str) -> None:
    with pipeline.events_withheld():
        upload = pipeline.upload(dataset, "a.csv", orders(1, 3))
    event = {"Records": [pipeline.event(upload)]}
    # As Lambda sends it to the destination after its last try.
    envelope = {
        "version": "1.0",
        "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
        "requestPayload": event,
        "responsePayload": {"errorType": "HandlerError", "errorMessage": "access denied"},
    }
    pipeline.send("land_failed_queue", [json.dumps(envelope)], dataset)
    [letter] = lines(pipeline, "dlq", "list", "land-failed")
    assert (letter["reason"], letter["file"]) == ("access denied (tried 3 times)", "a.csv")
    assert "dlq list land-failed" in ran(pipeline, "why", f"{dataset}/a.csv", code=1)
    assert "aws lambda invoke" in ran(pipeline, "dlq", "redrive", "land-failed", letter["message_id"], code=1)
    payload = json.loads(ran(pipeline, "dlq", "show", "land-failed", letter["message_id"], "--payload"))
    pipeline.invoke("land", payload)
    ran(pipeline, "dlq", "drop", "land-failed", letter["message_id"])
    assert pipeline.wait_settled(dataset, 1, 60).states["published"] == 1


def test_why_tells_a_files_whole_story(pipeline: Pipeline, dataset: str) -> None:
    inbox = f"s3://{pipeline.stack.inbox_bucket_name}/{dataset}"
    pipeline.upload(dataset, "days/a b.csv", orders(1, 3))
    pipeline.wait_settled(dataset, 1)
    pipeline.upload(dataset, "days/a b.csv", orders(1, 4))
    pipeline.upload(dataset, "held.csv", orders(100, 2) + b"x,1,,2024-05-01T12:00:00Z\n" * 9)
    pipeline.upload(dataset, "empty.csv", b"")
    status = pipeline.wait_settled(dataset, 4)
    number = status.number

    [newer, older] = json.loads(ran(pipeline, "why", f"{inbox}/days/a b.csv", "--json"))["versions"]
    assert (newer["state"], newer["rows"], newer["next"], older["state"]) == ("published", 4, [], "superseded")
    assert (older["superseded_by"], older["snapshot"]) == (newer["raw_id"], 1) and 1 < newer["snapshot"] <= number
    events = [event["what"].split(" ")[0] for event in older["events"]]
    assert events == ["uploaded", "landed", "staged", "published", "superseded"]
    assert newer["cost_nano_usd"] > 0 and newer["stagings"][0]["recorded"]

    [held] = json.loads(ran(pipeline, "why", f"{dataset}/held.csv", "--json"))["versions"]
    [staging] = held["stagings"]
    assert (held["state"], staging["coverage"]["rows_quarantined"]) == ("held", 9)
    assert staging["sample"][0].startswith("row 3: /id ") and staging["broken"][0]["rows"] == 9
    assert any("held release" in command for step in held["next"] for command in step["commands"])
    text = ran(pipeline, "why", held["raw_id"])
    assert f"HELD  {held['raw_id']}" in text and "row 3: /id" in text and len(text.splitlines()) < 40

    text = ran(pipeline, "why", f"{dataset}/empty.csv")
    assert "REJECTED" in text and "the object is empty" in text and "upload it again" in text
    assert "nothing has landed" in ran(pipeline, "why", f"{dataset}/never.csv", code=1)
    assert "is ignored" in pipeline.command("why", "No-Dataset/a.csv").stderr


def test_why_tells_a_failing_audit_its_sample_and_what_was_decided(pipeline: Pipeline, dataset: str) -> None:
    audited = f"{dataset}_audited"
    terms = {**ORDERS["x-sluicegate"], "audits": [{"id": "once", "audit": "unique", "columns": ["id"]}]}
    pipeline.upload_contract(audited, {**ORDERS, "x-sluicegate": terms})
    pipeline.wait_contract(audited)
    pipeline.upload(audited, "a.csv", orders(1, 3) + b"3,1,,2024-05-01T12:00:00Z\n")
    [raw] = pipeline.wait(audited, lambda s: s.states["held"] == 1, "the file is held").raw
    [audit] = json.loads(ran(pipeline, "why", raw.raw_id, "--json"))["versions"][0]["stagings"][0]["audits"]
    assert (audit["id"], audit["state"]) == ("once", "failed") and "3" in "".join(audit["sample"])
    assert "audit once: " in ran(pipeline, "why", raw.raw_id)
    assert pipeline.command("held", "release", audited, raw.raw_id, "--why", "known twin").returncode == 0
    pipeline.wait(audited, lambda s: s.states["published"] == 1, "the release is published")
    [told] = json.loads(ran(pipeline, "why", f"{audited}/{raw.raw_id}", "--json"))["versions"]
    assert [event["what"] for event in told["events"]][-2:] == ["released by ann: known twin", f"published by snapshot {told['snapshot']}"]


def test_status_tells_of_the_whole_lake(pipeline: Pipeline, dataset: str) -> None:
    promised = f"{dataset}_promised"
    terms = {**ORDERS["x-sluicegate"], "freshness": {"warn_after": "PT1H", "error_after": "P1D"}}
    pipeline.upload_contract(promised, {**ORDERS, "x-sluicegate": terms})
    pipeline.wait_contract(promised)
    pipeline.upload(promised, "a.csv", orders(1, 3))
    pipeline.wait_settled(promised, 1)
    pipeline.upload(f"{dataset}_waits", "a.csv", orders(1, 3))
    pipeline.wait_until(lambda: pipeline.status(f"{dataset}_waits").landed == 1, "a file waits")
    pipeline.wait_idle()
    [lake] = lines(pipeline, "status")
    told = {summary["dataset"]: summary for summary in lake["datasets"]}
    fresh = told[promised]
    assert (fresh["states"]["published"], fresh["snapshot"]["rows"], fresh["freshness"]["state"]) == (1, 3, "error")
    assert fresh["cost_nano_usd"] > 0 and fresh["oldest_pending"] is None
    waits = told[f"{dataset}_waits"]
    assert (waits["contract"], waits["states"]["waiting"]) == (None, 1) and waits["oldest_pending"]
    assert told[dataset]["snapshot"] is None
    assert len(lake["queues"]["depths"]) == 11 and not any(sum(depth.values()) for depth in lake["queues"]["depths"].values())
    watched = ran(pipeline, "status", promised, "--watch", "--for", "2")
    assert watched.count("too old, the promise is 24 h") == 2 and "\x1b" not in watched
    assert "1 published (3 rows)" in watched and "queues: all empty" in watched
    assert on_a_terminal(pipeline, "status", "--watch", "--for", "0").count("\x1b[2J\x1b[H") == 1
    assert "queues cannot be read" in pipeline.command("status", "--stack", "no-such-stack").stdout
