"""Builds the functions and the `sluicegate` command for this machine and packs the functions as Lambda wants them.

The zips land in `.local/functions/<name>.zip`, each holding one stripped `bootstrap`. Cargo decides what is stale, so
calling this again costs a second. Fails with `Trouble` when cargo does; cargo has then already said why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from local import LOCAL, ROOT, Trouble

FUNCTIONS = ("land", "stage", "promote", "replay")
FIRST_BUILD = "about 6 minutes on two cores the first time, seconds afterwards"


@dataclass(frozen=True)
class Build:
    functions: dict[str, Path]
    sluicegate: Path

    @staticmethod
    def example(name: str) -> Path:
        """A program of tests/examples, which only a build with tests makes."""
        return target() / "examples" / name


def target() -> Path:
    """Where cargo puts dev builds."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve() / "debug"


def build(*, with_tests: bool = False) -> Build:
    """`with_tests` also builds the programs of tests/examples, all with the features that `cargo test` builds with: with
    others every dependency would be built once more."""
    packages = [f"sluicegate-{name}" for name in (*FUNCTIONS, "cli")]
    wanted = [part for package in packages for part in ("-p", package)]
    if with_tests:
        wanted = ["--workspace", "--all-features", "--bins", "--examples"]
    command = ["cargo", "build", "--locked", *wanted]
    if not all((target() / name).exists() for name in (*FUNCTIONS, "sluicegate")):
        print(f"Building the functions for this machine: {FIRST_BUILD}.", file=sys.stderr, flush=True)
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise Trouble("the build failed; cargo says why above")
    return Build({name: _pack(name) for name in FUNCTIONS}, target() / "sluicegate")


def _pack(name: str) -> Path:
    binary, folder = target() / name, LOCAL / "functions"
    package = folder / f"{name}.zip"
    if package.exists() and package.stat().st_mtime >= binary.stat().st_mtime:
        return package
    bootstrap = folder / name / "bootstrap"
    bootstrap.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(binary, bootstrap)
    # Line tables are most of the file and the emulator unpacks each function. No strip, no harm.
    if shutil.which("strip"):
        subprocess.run(["strip", str(bootstrap)], check=False, stderr=subprocess.DEVNULL)
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = 0o100755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    # Written aside and renamed: another run may be reading the old one.
    unfinished = package.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(unfinished, "w", compresslevel=1) as out:
        out.writestr(entry, bootstrap.read_bytes())
    unfinished.replace(package)
    return package
