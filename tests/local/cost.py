"""What a run would cost on AWS by the project's price list, infra/prices.json.

An estimate to look at, never to test on: compute is this machine's seconds at the template's memory on arm64, and
Lambda's own polling of the queues is not in it. A kind of request that is not known here is shown without a price
rather than left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from local import REGION, ROOT

PRICES = ROOT / "infra" / "prices.json"
READS = ("Get", "Head", "Select")
DELETES = ("Delete", "Abort")


@dataclass(frozen=True)
class Item:
    what: str
    quantity: str
    usd: Decimal | None


def bill(requests: Counter[str], summaries: Sequence[dict[str, Any]]) -> list[Item]:
    prices = json.loads(PRICES.read_text())["regions"][REGION]

    def usd(service: str, row: str, quantity: Decimal) -> Decimal:
        entry = prices[service][row]
        return quantity * Decimal(entry["price"]) / entry["per"]

    items = []
    for kind, count in sorted(requests.items()):
        rows = _rows(kind)
        price = sum((usd(*row, Decimal(count)) for row in rows), Decimal()) if rows else None
        items.append(Item(kind, f"{count:,}", price))
    # Lambda bills init like the rest since 2025.
    seconds = [(Decimal(str(s.get("Duration", 0) + s.get("InitDuration", 0))) / 1000, s["MemorySize"]) for s in summaries]
    gigabyte_seconds = sum((time * memory / 1024 for time, memory in seconds), Decimal())
    logged = Decimal(sum(len(json.dumps(s, separators=(",", ":"))) for s in summaries)) / 10**9
    items.append(Item("lambda invocations", f"{len(summaries):,}", usd("lambda", "request", Decimal(len(summaries)))))
    items.append(Item("lambda GB-seconds", f"{gigabyte_seconds:,.2f}", usd("lambda", "compute_arm64", gigabyte_seconds)))
    items.append(Item("log KB", f"{logged * 10**6:,.1f}", usd("cloudwatch", "log_ingestion", logged)))
    return items


def _rows(kind: str) -> list[tuple[str, str]]:
    """The rows of the price list that a request like `s3:PutObject` is billed by."""
    service, _, operation = kind.partition(":")
    if service == "s3":
        if operation.startswith(DELETES):
            return [("s3", "delete")]
        return [("s3", "get" if operation.startswith(READS) else "put")]
    if service == "sqs":
        # What is sent carries a MessageGroupId: standard queues made fair.
        return [("sqs", "standard"), ("sqs", "fair_surcharge")] if operation.startswith("Send") else [("sqs", "standard")]
    return []
