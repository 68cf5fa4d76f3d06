"""An emulated AWS for as long as a block or a command runs.

Guarantees: it listens on 127.0.0.1 only, on a port that was free; it and every function process it started are gone
afterwards, also after Ctrl-C, SIGTERM, an exception, or a kill -9 of whoever started it. Nothing of the caller's
environment reaches the functions. Its state is in memory and gone with it; its log stays in `.local/logs/`.
Fails with `Trouble` when it does not come up, showing the end of its log.

    python -m local.emulator -- COMMAND…      runs COMMAND against one, and exits with COMMAND's code
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from local import KEY_ID, LOCAL, REGION, SECRET, Trouble

PROGRAM = LOCAL / "emulator" / "bin" / "ministack"
START_SECONDS = 60
LOGS_KEPT = 20

# Ends the emulator's process group and clears up when its own stdin closes, which the kernel sees to however the starter
# dies.
GUARD = """\
import os, shutil, signal, sys
sys.stdin.read()
try:
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
except OSError:
    pass
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


@dataclass(frozen=True)
class Emulator:
    endpoint: str
    pid: int
    log: Path

    def environment(self) -> dict[str, str]:
        """What a client needs to reach it, SDKs and our own conformance suite alike."""
        return {
            "SLUICEGATE_TEST_ENDPOINT": self.endpoint,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def function_processes(self) -> list[int]:
        """The process ids of the functions that run or are kept warm: the emulator starts nothing else."""
        table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        return [pid for pid, parent in (map(int, line.split()) for line in table.splitlines()) if parent == self.pid]


@contextmanager
def running(*, every_request: bool = False) -> Iterator[Emulator]:
    """An emulator, stopped with everything it started when the block is left. Its log has every request if asked to."""
    if not PROGRAM.exists():
        raise Trouble("the emulator is not installed: run `make setup`")
    logs = LOCAL / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for old in sorted(logs.glob("emulator-*.log"))[:-LOGS_KEPT]:
        old.unlink(missing_ok=True)
    # Short, since the code of every function is unpacked below it; private, so that two runs share nothing.
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=LOCAL))
    try:
        emulator, process, guard = _start(scratch, logs, "DEBUG" if every_request else "INFO")
        try:
            yield emulator
        finally:
            _stop(process, guard)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _start(scratch: Path, logs: Path, level: str) -> tuple[Emulator, subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    # Between finding a free port and binding it somebody else may take it: then another one is found.
    for _ in range(3):
        port = _free_port()
        endpoint = f"http://127.0.0.1:{port}"
        log = logs / f"emulator-{time.strftime('%Y%m%d-%H%M%S')}-{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [str(PROGRAM)],
                env={**_environment(port, endpoint, scratch), "LOG_LEVEL": level},
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        guard = subprocess.Popen(
            [sys.executable, "-c", GUARD, str(process.pid), str(scratch)], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            if _healthy(endpoint, process):
                return Emulator(endpoint, process.pid, log), process, guard
        except BaseException:
            _stop(process, guard)
            raise
        _stop(process, guard)
    raise Trouble(f"the emulator did not come up; the end of {log}:\n{_tail(log)}")


def _stop(process: subprocess.Popen[bytes], guard: subprocess.Popen[bytes]) -> None:
    # Its state is worth nothing, so it need not shut down in order; the functions are in its process group.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    guard.kill()
    if guard.stdin:
        guard.stdin.close()
    guard.wait()


def _environment(port: int, endpoint: str, scratch: Path) -> dict[str, str]:
    """Built from nothing: the functions inherit it, and a stray AWS_PROFILE of the caller must not reach them."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        # Its MQTT broker would listen on every address, whatever BIND_HOST says.
        "IOT_MTLS_ENABLED": "0",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _healthy(endpoint: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    # No proxy: a caller's http_proxy would answer for 127.0.0.1.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), opener.open(f"{endpoint}/_ministack/health", timeout=2):
            return True
        time.sleep(0.05)
    return False


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def unwind_on_signals() -> None:
    """Turns SIGTERM and SIGHUP into SystemExit, so that they leave `running` as Ctrl-C does. For main programs."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or arguments[0] != "--":
        print(__doc__, file=sys.stderr)
        return 2
    unwind_on_signals()
    with running() as emulator:
        command = subprocess.Popen(arguments[1:], env={**os.environ, **emulator.environment()})
        try:
            while True:
                # A terminal sends Ctrl-C to the command as well: it decides what that means.
                with suppress(KeyboardInterrupt):
                    code = command.wait()
                    return code if code >= 0 else 128 - code
        finally:
            command.terminate()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Trouble as trouble:
        sys.exit(f"sluicegate: {trouble}")
