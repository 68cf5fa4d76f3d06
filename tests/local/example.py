"""The files of examples/flights in the order the demo and the tests upload them, and what must come of it.

Every expectation is computed from the files with the csv module alone, independent of everything it is compared with.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local import EXAMPLE

DATASET = "flights"
LATE = EXAMPLE / "late" / "2013-01-05-mq.csv"
BAD = EXAMPLE / "bad" / "2013-01-20.csv"
NOT_CSV = EXAMPLE / "bad" / "not-a-csv.csv"
CONTRACT = EXAMPLE / "contract.json"
# Longer than the second in which the last of the others landed: lateness is judged against earlier landing seconds.
LATE_AFTER_SECONDS = 2.1


def in_order() -> list[Path]:
    """Everything but the late file: the daily files by date, the one with bad rows in its place, then the picture."""
    return [*sorted([*EXAMPLE.glob("2013-*.csv"), BAD], key=lambda path: path.name), NOT_CSV]


def planted() -> list[dict[str, Any]]:
    """The bad rows: `row` (1 is the first below the header), `column`, `rule` and `bytes`."""
    return json.loads((EXAMPLE / "bad" / "planted.json").read_text())


def contract() -> dict[str, Any]:
    return json.loads(CONTRACT.read_text())


@dataclass
class Figures:
    """What two readers of the same flights must agree on."""

    rows: int = 0
    distance: int = 0
    null_dep_time: int = 0
    by_month: dict[int, int] = field(default_factory=dict)


def figures(files: Iterable[bytes]) -> Figures:
    """Counted from CSV bytes; rows that do not match the header's length or say XXX where no flight can are the caller's."""
    total, months = Figures(), Counter[int]()
    for body in files:
        for row in csv.DictReader(io.StringIO(body.decode())):
            total.rows += 1
            total.distance += int(row["distance"])
            total.null_dep_time += row["dep_time"] in ("", "NA")
            months[int(row["month"])] += 1
    total.by_month = dict(sorted(months.items()))
    return total


def expected() -> Figures:
    """Of the whole example: the bad rows taken out line by line, and the late file counted."""
    bad = {entry["row"] for entry in planted()}
    good = b"".join(line for n, line in enumerate(BAD.read_bytes().splitlines(keepends=True)) if n not in bad)
    daily = [path.read_bytes() for path in in_order() if path not in (BAD, NOT_CSV)]
    return figures([*daily, good, LATE.read_bytes()])


def rows_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") - 1
