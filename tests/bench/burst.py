"""A burst of replays on the emulator: what it cost against its plan, and what it did to the latency of fresh files.

Three parts, over one dataset of small files. A replay of all of them with nobody else about: its dollars by the plan, by the
receipts, and by the requests in the emulator's own log (compute by what the functions say, since the emulator measures none).
Fresh files at a steady pace, alone. The same pace of other fresh files while all is replayed once more. Latency is from
before the upload's first byte to the commit that publishes. Ends with an error if anything is lost or published twice.

    python -m bench.burst [--files 2000] [--fresh 200] [--rate 5]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from bench import measure
from local import Trouble, cost, emulator
from local.build import build
from local.deploy import deploy
from local.pipeline import Pipeline, Upload

DATASET = "orders"
ROWS = 50
# Longer than replay rests at first while nothing moves.
QUIET_SECONDS = 30.0
REQUEST = re.compile(r"\] ([A-Z]+) (\S*) -> service=(s3|sqs) ")
CONTRACT: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": DATASET,
    "type": "object",
    "x-sluicegate": {
        "version": "1.0.0",
        "team": {"name": "Shop", "contact": "shop@example.com"},
        "format": {"type": "csv", "header": True},
        "event_time": {"column": "at", "grain": "day", "max_ahead": "P1D"},
        "lateness": {"allowed": "P366D"},
    },
    "required": ["id", "amount", "at"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "amount": {"type": "number", "minimum": 0},
        "at": {"type": "string", "format": "date-time"},
    },
}


def orders(n: int) -> bytes:
    """The n-th file: ids of its own, one day of thirty."""
    day = f"2024-05-{n % 30 + 1:02}"
    return ("id,amount,at\n" + "".join(f"{n * ROWS + i + 1},{i},{day}T12:00:00Z\n" for i in range(ROWS))).encode()


class Log:
    """The requests of the emulator's log from where it was last read."""

    def __init__(self, path: Any) -> None:
        self.file = path.open(errors="replace")
        self.file.seek(0, 2)
        self.half = ""

    def requests(self) -> Iterator[str]:
        for line in self.file:
            line = self.half + line
            self.half = "" if line.endswith("\n") else line
            if not self.half and (found := REQUEST.search(line)):
                yield kind(*found.groups())


def kind(method: str, path: str, service: str) -> str:
    """As the price list knows it. The log has no queries: a GET of a bucket is a listing."""
    if service == "sqs":
        return "sqs:SendMessage"
    if method == "GET" and path.strip("/").count("/") == 0:
        return "s3:ListObjectsV2"
    return {"GET": "s3:GetObject", "HEAD": "s3:HeadObject", "DELETE": "s3:DeleteObject"}.get(method, "s3:PutObject")


def quiet(log: Log) -> Counter[str]:
    """The requests until there are none for a while. Asks for nothing itself."""
    seen: Counter[str] = Counter()
    last, deadline = time.monotonic(), time.monotonic() + 1800
    while time.monotonic() - last < QUIET_SECONDS:
        new = Counter(log.requests())
        if new:
            seen, last = seen + new, time.monotonic()
        if time.monotonic() > deadline:
            raise Trouble("the emulator is not quiet within half an hour")
        time.sleep(0.5)
    return seen


def show(pipeline: Pipeline, plan: str) -> dict[str, Any]:
    done = pipeline.command("replay", "show", DATASET, plan, "--json")
    if done.returncode != 0:
        raise Trouble(done.stderr)
    return json.loads(done.stdout)["progress"]


def plan(pipeline: Pipeline, objects: int) -> dict[str, Any]:
    planned = pipeline.invoke("replay", {"plan": True, "dataset": DATASET, "landed_to": "2999-01-01"})
    if planned["objects"] < objects:
        raise Trouble(f"the plan has {planned['objects']} objects of {objects}")
    return planned


def start(pipeline: Pipeline, planned: dict[str, Any]) -> None:
    message = {"dataset": DATASET, "run": planned["plan"], "budget_nano_usd": 10 * planned["nano_usd"]}
    pipeline.send("replay", [json.dumps(message)], DATASET)


def alone(pipeline: Pipeline, log: Log, files: int) -> None:
    """The replay that nobody disturbs, and its three bills."""
    planned = plan(pipeline, files)
    since = time.time()
    Counter(log.requests())
    start(pipeline, planned)
    # The message that starts it is not its own.
    seen = quiet(log) - Counter(["sqs:SendMessage"])
    while (progress := show(pipeline, planned["plan"]))["state"] == "running":
        Counter(log.requests())
        seen += quiet(log)
    if (progress["state"], progress["settled"]) != ("done", planned["objects"]):
        raise Trouble(f"the replay is {progress}")
    lines = [line for line in pipeline.summaries() if line["_aws"]["Timestamp"] / 1000 >= since - 1]
    lines = [line for line in lines if line["Function"] in ("stage", "promote", "replay")]
    ours: Counter[str] = Counter()
    for line in lines:
        ours.update(line["requests"])
    bill = sum((item.usd or Decimal() for item in cost.bill(seen, lines)), Decimal())
    said = sum(line["CostNanoUsd"] for line in lines) / 1e9
    print(f"| a replay of {planned['objects']:,} files | dollars | of the plan |")
    print("|---|---:|---:|")
    for what, usd in (
        ("the plan", planned["nano_usd"] / 1e9),
        ("receipts in the ledger, and publishing", progress["spent"] / 1e9),
        ("lines of stage, promote and replay", said),
        ("the emulator's log of requests, and compute", float(bill)),
    ):
        print(f"| {what} | {usd:.6f} | {usd / (planned['nano_usd'] / 1e9):.2f} |")
    print(f"\nThe emulator's log has {sum(seen.values()):,} requests, the functions' lines {sum(ours.values()):,}; stage's by the plan {planned['requests']:,.0f}.")
    for kind, count in sorted(seen.items()):
        print(f"  {kind}: {count:,} in the log")
    for function in ("stage", "promote", "replay"):
        of = [line for line in lines if line["Function"] == function]
        total = Counter[str]()
        for line in of:
            total.update(line["requests"])
        print(f"  {function}: {len(of):,} invocations, {sum(line['CostNanoUsd'] for line in of) / 1e9:.6f} dollars, {dict(total)}")
    print(flush=True)


def fresh(pipeline: Pipeline, first: int, count: int, rate: float) -> list[Upload]:
    """Uploads at a steady pace, whatever becomes of them."""
    began, uploads = time.monotonic(), []
    for n in range(count):
        time.sleep(max(0.0, began + n / rate - time.monotonic()))
        uploads.append(pipeline.upload(DATASET, f"{first + n}.csv", orders(first + n)))
    return uploads


def latencies(pipeline: Pipeline, uploads: list[Upload]) -> list[float]:
    by_source = {raw.source: raw for raw in pipeline.status(DATASET).raw}
    found = [by_source[upload.key.removeprefix(f"{DATASET}/")].published_at for upload in uploads]
    if None in found:
        raise Trouble(f"{found.count(None)} fresh files are not published")
    return [at - upload.at for at, upload in zip(found, uploads, strict=True) if at is not None]


def row(what: str, seconds: list[float]) -> str:
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return f"| {what} | {statistics.median(seconds):.2f} | {p95:.2f} | {max(seconds):.2f} |"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--files", type=int, default=2000)
    arguments.add_argument("--fresh", type=int, default=200)
    arguments.add_argument("--rate", type=float, default=5.0)
    options = arguments.parse_args()
    built = build()
    with emulator.running(every_request=True) as aws:
        pipeline = Pipeline(aws.endpoint, deploy(aws.endpoint, built.functions), built.sluicegate)
        log = Log(aws.log)
        pipeline.upload_contract(DATASET, CONTRACT)
        pipeline.wait_contract(DATASET)
        for n in range(options.files):
            pipeline.upload(DATASET, f"{n}.csv", orders(n))
        pipeline.wait_settled(DATASET, options.files, seconds=900)
        pipeline.wait_idle()
        print(f"{measure.machine()}; files of {ROWS} rows\n")
        alone(pipeline, log, options.files)

        before = fresh(pipeline, options.files, options.fresh, options.rate)
        pipeline.wait_settled(DATASET, options.files + options.fresh)
        without = latencies(pipeline, before)

        planned = plan(pipeline, options.files)
        replayed_since = time.monotonic()
        start(pipeline, planned)
        beside = fresh(pipeline, options.files + options.fresh, options.fresh, options.rate)
        upload_seconds = time.monotonic() - replayed_since
        pipeline.wait_until(lambda: show(pipeline, planned["plan"])["state"] != "running", "the burst is over", 900)
        burst_seconds = time.monotonic() - replayed_since
        pipeline.wait_settled(DATASET, options.files + 2 * options.fresh)
        pipeline.wait_idle()
        within = latencies(pipeline, beside)

        progress, status = show(pipeline, planned["plan"]), pipeline.status(DATASET)
        expected = options.files + 2 * options.fresh
        if (progress["state"], progress["settled"]) != ("done", planned["objects"]):
            raise Trouble(f"the burst is {progress}")
        if status.states["published"] != expected or status.rows["published"] != expected * ROWS or status.landed != expected:
            raise Trouble(f"{expected} files were uploaded, and there are {status.states}, {status.rows}")
        if pipeline.given_up():
            raise Trouble("messages were given up")
        print(f"| {options.fresh} fresh files, {options.rate:g} a second | median, s | p95, s | worst, s |")
        print("|---|---:|---:|---:|")
        print(row("alone", without))
        print(row(f"beside a replay of {planned['objects']:,} files", within))
        print(f"\nThe fresh files came in {upload_seconds:.0f} s, the replay took {burst_seconds:.0f} s; each of {expected:,} files is published once.")


if __name__ == "__main__":
    emulator.unwind_on_signals()
    main()
