"""`make demo`: a month of real flights through the deployed pipeline, watched, counted, priced and read by other engines.

On a terminal it stays up until Ctrl-C, so that the table can be read. Without one, or with SLUICEGATE_DEMO_ONCE=1, it
ends by itself, within minutes whatever happens: exit 0 when every figure is what the files say it must be, 1 with the
figures that are not, or with what went wrong.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from local import Trouble, cost, emulator, engines, example
from local.build import build
from local.deploy import deploy
from local.pipeline import Pipeline, Status, Upload, requests

STEP_SECONDS = 240.0


class Progress:
    """How many files have passed each stage: one block redrawn on a terminal, a line per change elsewhere."""

    def __init__(self, total: int) -> None:
        self.total, self.uploaded = total, 0
        self.redraw = sys.stdout.isatty()
        self._drawn, self._last, self._at = False, "", 0.0

    def show(self, status: Status | None = None, staged: int = 0) -> None:
        published = sum(raw.published_at is not None for raw in status.raw) if status else 0
        counts = {
            "uploaded": self.uploaded,
            "landed": status.landed if status else 0,
            "staged": staged,
            "published": published,
            "rejected": status.states.get("rejected", 0) if status else 0,
        }
        self._block(counts) if self.redraw else self._line(counts)

    def _block(self, counts: dict[str, int]) -> None:
        if self._drawn:
            print(f"\x1b[{len(counts)}A", end="")
        self._drawn = True
        for name, count in counts.items():
            bar = "█" * round(30 * count / self.total)
            print(f"\x1b[K  {name:<10}{bar:<30} {count:>3} of {self.total}", flush=True)

    def _line(self, counts: dict[str, int]) -> None:
        line = "  ".join(f"{name} {count}/{self.total}" for name, count in counts.items())
        if line != self._last and (time.monotonic() - self._at > 1 or counts["published"] == self.total):
            self._last, self._at = line, time.monotonic()
            print(line, flush=True)


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def run(pipeline: Pipeline) -> tuple[Status, list[Upload]]:
    """Uploads the example and sees it through: all but the late file, then, when they are out, the late one."""
    files = example.in_order()
    progress = Progress(len(files) + 1)
    uploads: list[Upload] = []

    def seen(status: Status) -> None:
        progress.show(status, pipeline.staged(example.DATASET))

    pipeline.upload_contract(example.DATASET, example.CONTRACT.read_bytes())
    pipeline.wait_contract(example.DATASET)
    for path in files:
        uploads.append(pipeline.upload(example.DATASET, path.name, path.read_bytes()))
        progress.uploaded += 1
        progress.show()
    await_published(pipeline, len(uploads), seen)
    time.sleep(example.LATE_AFTER_SECONDS)
    uploads.append(pipeline.upload(example.DATASET, example.LATE.name, example.LATE.read_bytes()))
    progress.uploaded += 1
    status = await_published(pipeline, len(uploads), seen)
    return status, uploads


def await_published(pipeline: Pipeline, landed: int, seen: Callable[[Status], None]) -> Status:
    return pipeline.wait(
        example.DATASET, lambda s: s.landed >= landed and not s.unsettled, "every file is published or rejected", STEP_SECONDS, seen
    )


def latencies(status: Status, uploads: list[Upload]) -> list[float]:
    """Seconds from the first byte uploaded to the snapshot that published it."""
    at = {upload.key.split("/", 1)[1]: upload.at for upload in uploads}
    return [raw.published_at - at[raw.source] for raw in status.raw if raw.published_at is not None and raw.source in at]


def unexpected(status: Status, read: dict[str, example.Figures]) -> list[str]:
    """The figures that are not what the files say, in words; empty when all is well."""
    want = example.expected()
    files = len(example.in_order()) + 1
    late = status.rows.get("late", 0)
    checks = [
        ("files landed", status.landed, files),
        ("files published", status.states.get("published", 0), files - 1),
        ("files held", status.states.get("held", 0), 0),
        ("files rejected", status.states.get("rejected", 0), 1),
        ("rows published", status.rows.get("published", 0), want.rows),
        ("rows quarantined", status.rows.get("quarantined", 0), len(example.planted())),
        ("rows late", late, example.rows_in(example.LATE)),
        *((f"what {engine} reads", figures, want) for engine, figures in read.items()),
    ]
    return [f"{what}: {have}, expected {expected}" for what, have, expected in checks if have != expected]


def report(pipeline: Pipeline, status: Status, uploads: list[Upload], read: dict[str, example.Figures]) -> None:
    summaries, seconds = pipeline.summaries(), latencies(status, uploads)
    table = [
        ("files landed", f"{status.landed:,}"),
        ("files published", f"{status.states.get('published', 0):,}"),
        ("files held", f"{status.states.get('held', 0):,}"),
        ("files rejected", f"{status.states.get('rejected', 0):,}"),
        ("rows published", f"{status.rows.get('published', 0):,}"),
        ("rows quarantined", f"{status.rows.get('quarantined', 0):,}"),
        ("rows late", f"{status.rows.get('late', 0):,}"),
        ("seconds from upload to published", f"{statistics.median(seconds):.1f} median, {max(seconds):.1f} worst" if seconds else "none"),
    ]
    table += [(f"{engine} reads", f"{f.rows:,} rows, {f.distance:,} miles, {f.null_dep_time:,} cancelled") for engine, f in read.items()]
    print()
    for name, value in table:
        print(f"  {name:<34}{value}")
    for raw in status.raw:
        if raw.state in ("held", "rejected"):
            print(f"  {raw.state}: {raw.source}: {raw.reason}")
    print("\n  requests made, and what they would cost on AWS\n")
    bill = cost.bill(requests(summaries), summaries)
    for item in bill:
        print(f"  {item.what:<34}{item.quantity:>12} {'$' + format(item.usd, '.6f') if item.usd is not None else 'no price':>14}")
    print(f"  {'together':<34}{'':>12} {'$' + format(sum(item.usd or 0 for item in bill), '.6f'):>14}\n")


def look_around(pipeline: Pipeline) -> str:
    """What to paste to have the command line ask this very stack."""
    told = {**pipeline.environment, "SLUICEGATE_STACK": pipeline.stack.name, "SLUICEGATE_REPLAY_QUEUE_URL": pipeline.queue_url("replay")}
    exports = [f"export {name}={value}" for name, value in told.items()]
    asks = (
        f"status {example.DATASET}",
        f"why s3://{pipeline.stack.inbox_bucket_name}/{example.DATASET}/2013-01-20.csv",
        f"snapshot list {example.DATASET}",
        f"replay plan {example.DATASET} --landed-from 2013-01-01",
    )
    return "\n".join([*exports, *(f"{pipeline.sluicegate} {ask}" for ask in asks)])


def demo() -> int:
    stays = sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("SLUICEGATE_DEMO_ONCE") != "1"
    built = build()
    say("Starting an emulated AWS")
    with emulator.running() as aws:
        say(f"Deploying template.yaml to {aws.endpoint}")
        stack = deploy(aws.endpoint, built.functions)
        pipeline = Pipeline(aws.endpoint, stack, built.sluicegate)
        say(f"Uploading January 2013 to s3://{stack.inbox_bucket_name}/{example.DATASET}/")
        status, uploads = run(pipeline)
        say("Reading the table with other engines")
        read = {name: engine(aws.endpoint, stack.lake_bucket_name, example.DATASET) for name, engine in engines.ENGINES.items()}
        report(pipeline, status, uploads, read)
        say("Read it yourself\n")
        print(engines.snippet(aws.endpoint, stack.lake_bucket_name, example.DATASET), "\n", flush=True)
        wrong = unexpected(status, read)
        for line in wrong:
            print(f"sluicegate: {line}", file=sys.stderr, flush=True)
        if not wrong:
            say("All is as expected")
        if stays:
            say("Look around, in another terminal\n")
            print(look_around(pipeline), "\n", flush=True)
            say("Still running; Ctrl-C ends it and everything it started")
            # Polars took Ctrl-C for its own queries, and does not give it back.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
        return 1 if wrong else 0


def main() -> int:
    emulator.unwind_on_signals()
    try:
        return demo()
    except Trouble as trouble:
        print(f"sluicegate: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
