"""The deployed pipeline as somebody outside it sees it: files put into the inbox, states read back, logs added up.

Nothing here knows what the functions do inside; states come from `sluicegate status --json`. Every wait is bounded and
fails with `Trouble` that says what was waited for, where the messages are and what the functions complained of.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from local import KEY_ID, REGION, SECRET, Trouble
from local.deploy import Stack, client

WAIT_SECONDS = 180.0
POLL_SECONDS = 0.25
FUNCTIONS = ("land", "stage", "promote", "replay")
WORK_QUEUES = ("stage", "stage_replay", "promote", "promote_replay", "replay")
FAILED_QUEUES = ("stage_dlq", "stage_replay_dlq", "promote_dlq", "promote_replay_dlq", "replay_dlq", "land_failed_queue")


@dataclass(frozen=True)
class Upload:
    """One version of one object in the inbox. `at` is the clock of whoever uploads, just before the first byte."""

    key: str
    size: int
    at: float
    etag: str
    version_id: str


@dataclass(frozen=True)
class RawObject:
    raw_id: str
    source: str
    state: str
    rows: int
    quarantined: int
    late_files: int
    late_rows: int
    published_at: float | None
    reason: str | None

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> RawObject:
        published = entry.get("published_at")
        return cls(
            raw_id=entry["raw_id"],
            source=entry["source"],
            state=entry["state"],
            rows=entry.get("rows") or 0,
            quarantined=entry.get("quarantined") or 0,
            late_files=entry.get("late_files") or 0,
            late_rows=entry.get("late_rows") or 0,
            published_at=_epoch(published) if published else None,
            reason=entry.get("reason"),
        )


@dataclass(frozen=True)
class Status:
    """`sluicegate status`: `states` counts raw objects, `number` is the published snapshot's, 0 before the first."""

    dataset: str
    number: int
    states: dict[str, int]
    rows: dict[str, int]
    raw: list[RawObject]

    @classmethod
    def parse(cls, report: dict[str, Any]) -> Status:
        snapshot = report.get("snapshot") or {}
        raw = [RawObject.parse(entry) for entry in report.get("raw", [])]
        return cls(report["dataset"], snapshot.get("number", 0), report["states"], report["rows"], raw)

    @property
    def landed(self) -> int:
        return len(self.raw)

    @property
    def unsettled(self) -> int:
        """Raw objects that somebody still has to do something about."""
        return self.states.get("pending", 0)

    def of_source(self, source: str) -> list[RawObject]:
        """The source's versions, oldest first."""
        return sorted((raw for raw in self.raw if raw.source == source), key=lambda raw: raw.raw_id)

    def published(self, source: str) -> RawObject:
        return next(raw for raw in self.of_source(source) if raw.state == "published")


def _epoch(text: str) -> float:
    # Python 3.10 takes neither a Z nor a fraction that has not three or six digits.
    seconds, _, fraction = text.rstrip("Z").partition(".")
    whole = datetime.fromisoformat(seconds).replace(tzinfo=timezone.utc).timestamp()
    return whole + (float(f"0.{fraction}") if fraction else 0.0)


class Pipeline:
    def __init__(self, endpoint: str, stack: Stack, sluicegate: Path) -> None:
        self.endpoint, self.stack, self.sluicegate = endpoint, stack, sluicegate
        self.s3, self.sqs, self.functions, self.logs = (client(s, endpoint) for s in ("s3", "sqs", "lambda", "logs"))

    # Putting in.

    def upload(self, dataset: str, name: str, body: bytes) -> Upload:
        return self._put(f"{dataset}/{name}", body)

    def upload_contract(self, dataset: str, contract: bytes | dict[str, Any]) -> Upload:
        body = contract if isinstance(contract, bytes) else json.dumps(contract).encode()
        return self._put(f"_contracts/{dataset}.json", body)

    def _put(self, key: str, body: bytes) -> Upload:
        at = time.time()
        answer = self.s3.put_object(Bucket=self.stack.inbox_bucket_name, Key=key, Body=body)
        return Upload(key, len(body), at, answer["ETag"].strip('"'), answer.get("VersionId", ""))

    def event(self, upload: Upload) -> dict[str, Any]:
        """The event S3 sends for this upload, as recorded from S3; versions of one key sort by their sequencer."""
        bucket = self.stack.inbox_bucket_name
        return {
            "eventVersion": "2.6",
            "eventSource": "aws:s3",
            "awsRegion": REGION,
            "eventTime": datetime.fromtimestamp(upload.at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "EXAMPLE"},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {"x-amz-request-id": "EXAMPLE", "x-amz-id-2": "EXAMPLE"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "Uploaded",
                "bucket": {"name": bucket, "ownerIdentity": {"principalId": "EXAMPLE"}, "arn": f"arn:aws:s3:::{bucket}"},
                "object": {
                    "key": quote_plus(upload.key, safe="/"),
                    "size": upload.size,
                    "eTag": upload.etag,
                    "versionId": upload.version_id,
                    "sequencer": f"{int(upload.at * 1e6):018X}",
                },
            },
        }

    def deliver(self, uploads: Sequence[Upload]) -> None:
        """Invokes land with one event for each, in this order: duplicates and disorder are the caller's to make."""
        for upload in uploads:
            self.invoke("land", {"Records": [self.event(upload)]})

    @contextmanager
    def events_withheld(self) -> Iterator[None]:
        """Uploads inside the block raise no event: deliver them by hand."""
        bucket = self.stack.inbox_bucket_name
        configured = self.s3.get_bucket_notification_configuration(Bucket=bucket)
        configured.pop("ResponseMetadata")
        self.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
        try:
            yield
        finally:
            self.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configured)

    def invoke(self, function: str, payload: Any) -> Any:
        name = getattr(self.stack, f"{function}_function_name")
        answer = self.functions.invoke(FunctionName=name, Payload=json.dumps(payload).encode())
        body = answer["Payload"].read()
        if "FunctionError" in answer:
            raise Trouble(f"{function} failed on {json.dumps(payload)[:300]}: {body.decode(errors='replace')}")
        return json.loads(body)

    def send(self, queue: str, bodies: Sequence[str], group: str) -> None:
        url = self.queue_url(queue)
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(n), "MessageBody": body, "MessageGroupId": group} for n, body in enumerate(bodies[start : start + 10])
            ]
            answer = self.sqs.send_message_batch(QueueUrl=url, Entries=entries)
            if answer.get("Failed"):
                raise Trouble(f"{queue} queue refused {answer['Failed']}")

    # Looking at it.

    def status(self, dataset: str) -> Status:
        done = self.command("status", dataset, "--json")
        if done.returncode != 0:
            raise Trouble(f"sluicegate status {dataset} exited {done.returncode}: {done.stderr.strip()}")
        return Status.parse(json.loads(done.stdout))

    @property
    def environment(self) -> dict[str, str]:
        """What `sluicegate` wants to be told by somebody with the rights to both buckets."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "SLUICEGATE_LAKE_BUCKET": self.stack.lake_bucket_name,
            "SLUICEGATE_INBOX_BUCKET": self.stack.inbox_bucket_name,
            "SLUICEGATE_PROMOTE_QUEUE_URL": self.queue_url("promote"),
        }

    def command(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
        """Runs `sluicegate` as such a person does; what it exits with is the caller's."""
        environment = {**self.environment, "PATH": os.environ.get("PATH", ""), "USER": "ann"}
        command = [str(self.sluicegate), *arguments]
        return subprocess.run(command, env=environment, stdin=stdin, capture_output=True, text=True, timeout=120)

    def wait(
        self, dataset: str, done: Callable[[Status], bool], what: str, seconds: float = WAIT_SECONDS, seen: Callable[[Status], None] | None = None
    ) -> Status:
        """Polls until `done`, showing each status to `seen`. A file that gave up on the way ends the wait at once."""
        deadline = time.monotonic() + seconds
        given_up = self.given_up()
        while True:
            status = self.status(dataset)
            if seen:
                seen(status)
            if done(status):
                return status
            if self.given_up() > given_up:
                raise self._trouble(f"a message ended in a dead-letter queue while waiting until {what}", status)
            if time.monotonic() > deadline:
                raise self._trouble(f"waited {seconds:.0f} s in vain until {what}", status)
            time.sleep(POLL_SECONDS)

    def wait_contract(self, dataset: str, seconds: float = WAIT_SECONDS) -> None:
        """Until the dataset has a current contract. Files that come first would wait for it, and be staged then."""
        deadline = time.monotonic() + seconds
        while f"contracts/{dataset}/current.json" not in self.keys(f"contracts/{dataset}/"):
            if refused := self.keys(f"contracts/{dataset}/refused/"):
                raise Trouble(f"the contract of {dataset} was refused: {self.read(refused[0]).decode(errors='replace')}")
            if time.monotonic() > deadline:
                raise self._trouble(f"waited {seconds:.0f} s in vain for the contract of {dataset}")
            time.sleep(POLL_SECONDS)

    def land_contract(self, dataset: str, contract: bytes | dict[str, Any], seconds: float = WAIT_SECONDS) -> dict[str, Any] | None:
        """Uploads a contract and waits until it is current, or refused: then answers with the report."""
        pointer, reports = f"contracts/{dataset}/current.json", f"contracts/{dataset}/refused/"
        before = set(self.keys(reports)), self._tag(pointer)
        self.upload_contract(dataset, contract)
        deadline = time.monotonic() + seconds
        while self._tag(pointer) == before[1]:
            if new := set(self.keys(reports)) - before[0]:
                return json.loads(self.read(new.pop()))
            if time.monotonic() > deadline:
                raise self._trouble(f"waited {seconds:.0f} s in vain until a contract of {dataset} is current or refused")
            time.sleep(POLL_SECONDS)
        return None

    def wait_until(self, done: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise self._trouble(f"waited {seconds:.0f} s in vain until {what}")
            time.sleep(POLL_SECONDS)

    def _tag(self, key: str) -> str | None:
        listed = self.s3.list_objects_v2(Bucket=self.stack.lake_bucket_name, Prefix=key).get("Contents", [])
        return next((entry["ETag"] for entry in listed if entry["Key"] == key), None)

    def current_version(self, dataset: str) -> str:
        """Of the dataset's contract."""
        return json.loads(self.read(f"contracts/{dataset}/current.json"))["version"]

    def wait_settled(self, dataset: str, landed: int, seconds: float = WAIT_SECONDS) -> Status:
        """Until that many versions have landed and none is pending."""
        return self.wait(dataset, lambda s: s.landed >= landed and not s.unsettled, f"{landed} raw objects of {dataset} are settled", seconds)

    def wait_idle(self, seconds: float = WAIT_SECONDS) -> None:
        """Until no work queue holds a message, twice in a row: a message may be on its way from one to the next."""
        deadline, quiet = time.monotonic() + seconds, 0
        while quiet < 2:
            quiet = 0 if any(self.depths()[queue] for queue in WORK_QUEUES) else quiet + 1
            if time.monotonic() > deadline:
                raise self._trouble(f"waited {seconds:.0f} s in vain until the queues are empty")
            time.sleep(POLL_SECONDS)

    def _trouble(self, what: str, status: Status | None = None) -> Trouble:
        lines = [what, f"messages: {dict(self.depths())}"]
        if status:
            lines.append(f"states: {status.states}")
        complaints = [s["failures"] for s in self.summaries() if s.get("failures")]
        lines += [f"failures: {json.dumps(c)[:500]}" for c in complaints[-5:]]
        return Trouble("\n".join(lines))

    def queue_url(self, queue: str) -> str:
        """Of `stage`, `stage_dlq`, `land_failed_queue` and their like."""
        return getattr(self.stack, f"{queue}_url", None) or getattr(self.stack, f"{queue}_queue_url")

    def depths(self) -> dict[str, int]:
        """Messages in each queue, those being worked on included."""
        return {queue: self._depth(queue) for queue in (*WORK_QUEUES, *FAILED_QUEUES)}

    def given_up(self) -> int:
        return sum(self._depth(queue) for queue in FAILED_QUEUES)

    def in_flight(self, queue: str) -> int:
        name = "ApproximateNumberOfMessagesNotVisible"
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queue_url(queue), AttributeNames=[name])
        return int(answer["Attributes"][name])

    def _depth(self, queue: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queue_url(queue), AttributeNames=names)
        return sum(int(value) for value in answer["Attributes"].values())

    @contextmanager
    def visibility(self, queue: str, seconds: int) -> Iterator[None]:
        """A failed try comes back after `seconds` instead of the template's 6 × timeout."""
        url, name = self.queue_url(queue), "VisibilityTimeout"
        before = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name]
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={name: str(seconds)})
        try:
            yield
        finally:
            self.sqs.set_queue_attributes(QueueUrl=url, Attributes={name: before})

    @contextmanager
    def tries(self, queue: str, count: int) -> Iterator[None]:
        """A message of the queue is given up after `count` tries instead of the template's."""
        url, name = self.queue_url(queue), "RedrivePolicy"
        before = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name]
        policy = {**json.loads(before), "maxReceiveCount": count}
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={name: json.dumps(policy)})
        try:
            yield
        finally:
            self.sqs.set_queue_attributes(QueueUrl=url, Attributes={name: before})

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.stack.lake_bucket_name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.stack.lake_bucket_name, Key=key)["Body"].read()

    def raw_bytes(self, dataset: str, raw: RawObject) -> bytes:
        return self.read(f"raw/{dataset}/{raw.source}/{raw.raw_id}")

    def faults(self, dataset: str, raw: RawObject) -> list[dict[str, Any]]:
        """What the quarantine says of each bad row, in the order of the rows."""
        keys = [key for key in self.keys(f"quarantine/{dataset}/{raw.raw_id}/") if key.endswith(".jsonl")]
        return sorted((json.loads(line) for key in keys for line in self.read(key).splitlines()), key=lambda said: said["row"])

    def staged(self, dataset: str) -> int:
        return sum(key.endswith("/proposal.json") for key in self.keys(f"staging/{dataset}/"))

    # What it said and what it asked for.

    def summaries(self, functions: Sequence[str] = FUNCTIONS) -> list[dict[str, Any]]:
        """The summary line of every invocation so far, with the function's memory as `MemorySize`."""
        found: list[dict[str, Any]] = []
        for function in functions:
            configuration = self._configuration(function)
            for message in self._log(configuration):
                if message.startswith("{") and '"_aws"' in message:
                    found.append({"MemorySize": configuration["MemorySize"], **json.loads(message)})
        return found

    def log_lines(self, functions: Sequence[str] = FUNCTIONS) -> list[str]:
        """Whatever the functions have written so far."""
        return [line for function in functions for line in self._log(self._configuration(function))]

    def _configuration(self, function: str) -> dict[str, Any]:
        return self.functions.get_function_configuration(FunctionName=getattr(self.stack, f"{function}_function_name"))

    def _log(self, configuration: dict[str, Any]) -> Iterator[str]:
        group = configuration.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{configuration['FunctionName']}"
        try:
            for page in self.logs.get_paginator("filter_log_events").paginate(logGroupName=group):
                yield from (event["message"] for event in page["events"])
        except self.logs.exceptions.ResourceNotFoundException:
            return


def requests(summaries: Sequence[dict[str, Any]]) -> Counter[str]:
    """Requests by kind over all invocations, as `s3:PutObject`."""
    total: Counter[str] = Counter()
    for summary in summaries:
        total.update(summary.get("requests", {}))
    return total
