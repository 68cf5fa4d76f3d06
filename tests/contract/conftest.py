"""The `sluicegate` program, built as the end-to-end tests build it, and the examples. No AWS, no emulator."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local import ROOT
from local.build import build

Row = dict[str, Any]
Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]

EXAMPLES = ROOT / "examples"
DATA = {
    "flights": sorted(EXAMPLES.glob("flights/2013-*.csv")),
    "airlines": [EXAMPLES / "airlines/airlines.csv"],
    "airports": [EXAMPLES / "airports/airports.csv"],
    "planes": [EXAMPLES / "planes/planes.csv"],
    "weather": [EXAMPLES / "weather/2013-01.csv"],
    "orders": sorted(EXAMPLES.glob("orders/*.jsonl")),
}
# Bounds that what is hostile may not reach. They are no timings: a slow machine has them too. macOS bounds no memory.
LIMITS = {resource.RLIMIT_CPU: 20} | ({resource.RLIMIT_AS: 512 << 20} if sys.platform == "linux" else {})


def path_of(dataset: str) -> str:
    return str(EXAMPLES / dataset / "contract.json")


def contract(dataset: str) -> Row:
    return json.loads(Path(path_of(dataset)).read_text())


@pytest.fixture(scope="session")
def run() -> Run:
    program = build(with_tests=True).sluicegate

    def run(*arguments: object, stdin: bytes = b"", limits: dict[int, int] | None = None) -> Done:
        def limit() -> None:
            for kind, most in (limits or {}).items():
                resource.setrlimit(kind, (most, most))

        done = subprocess.run([str(program), *map(str, arguments)], input=stdin, capture_output=True, timeout=120, preexec_fn=limit)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def check(run: Run) -> Callable[..., Row]:
    """What `check --json` says of a file of these bytes."""

    def check(path: object, body: bytes) -> Row:
        done = run("check", "--json", "--show", 1000, "--contract", path, "-", stdin=body)
        assert done.stderr == "" and done.returncode in (0, 1, 2), done.stderr
        return json.loads(done.stdout)

    return check
