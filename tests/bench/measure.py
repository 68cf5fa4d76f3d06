"""Runs a command and asks the operating system what it took: CPU seconds of it and its children, and peak memory."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    cpu: float
    wall: float
    peak_mib: float
    output: str


def once(command: Sequence[str], env: dict[str, str]) -> Run:
    """Runs a command to its end; one that fails ends the benchmark."""
    with tempfile.TemporaryFile("w+") as out:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=sys.stderr, env={**os.environ, **env})
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"{command[0]} ended with {process.returncode}")
        out.seek(0)
        # ru_maxrss is in KiB on Linux and in bytes on macOS.
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return Run(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / unit, out.read())


def apart(work: Callable[..., T], *arguments: object) -> T:
    """Does work in a process of its own: what this one once held counts as held by every command that it runs."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def median(runs: Sequence[Run]) -> Run:
    pick = lambda name: statistics.median(getattr(run, name) for run in runs)  # noqa: E731
    return Run(pick("cpu"), pick("wall"), pick("peak_mib"), runs[-1].output)


def machine() -> str:
    """What the figures were measured on, without naming it."""
    model = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        "unknown processor",
    )
    return f"{os.cpu_count()} cores, {model}"
