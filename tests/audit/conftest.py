"""The pipeline in one process on a lake that is a folder (tests/examples/local_lake.rs), and readers of what it leaves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.build import build

Result = dict[str, Any]
# A file and when it lands.
Landing = tuple[Path, str]


@dataclass(frozen=True)
class Lake:
    """One dataset in a folder."""

    program: Path
    folder: Path
    contract: Path
    dataset: str = "rows"

    def take(self, *files: Landing) -> list[Result]:
        """Takes files through the pipeline, one after the other."""
        command = [self.program, self.folder, self.contract, self.dataset, *(f"{path}@{at}" for path, at in files)]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def proposal(self, result: Result) -> dict[str, Any]:
        return json.loads((self.folder / result["proposal"]).read_text())

    def parquet(self, result: Result) -> list[str]:
        return [file["path"] for file in self.proposal(result)["files"]]

    def raw(self, result: Result) -> bytes:
        return (self.folder / "raw" / self.dataset / result["source"] / result["raw_id"]).read_bytes()

    def quarantined(self, result: Result) -> list[tuple[dict[str, Any], bytes]]:
        """Every bad row's reasons, and its bytes as they are kept."""
        keys = self.proposal(result)["quarantine"]
        found = []
        for reasons, rows in zip(sorted(k for k in keys if k.endswith(".jsonl")), sorted(k for k in keys if k.endswith(".rows")), strict=True):
            kept = (self.folder / rows).read_bytes()
            for line in (self.folder / reasons).read_bytes().splitlines():
                reason = json.loads(line)
                found.append((reason, kept[reason["at"] : reason["at"] + reason["length"]]))
        return found


NewLake = Callable[[dict[str, Any]], Lake]


@pytest.fixture(scope="session")
def new_lake(tmp_path_factory: pytest.TempPathFactory) -> NewLake:
    """Makes an empty lake for a contract."""
    program = build(with_tests=True).example("local_lake")

    def make(contract: dict[str, Any]) -> Lake:
        folder = tmp_path_factory.mktemp("lake")
        path = folder / "contract.json"
        path.write_text(json.dumps(contract))
        return Lake(program, folder / "lake", path)

    return make


def audits(result: Result) -> dict[str, Result]:
    """What each audit came to, by its id."""
    return {audit["id"]: audit for audit in result["audits"]}


def failed(result: Result) -> set[str]:
    return {name for name, audit in audits(result).items() if audit["state"] not in ("passed", "no_history")}


def outcome(result: Result) -> str:
    return result["verdict"]["outcome"]


def written(path: Path, pieces: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(pieces))
    return path
