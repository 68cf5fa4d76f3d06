"""The deployed bootstraps: their size, and the time from exec to the first poll of the Runtime API.

The Runtime API here is a socket on 127.0.0.1 that waits for the first `GET …/invocation/next` and then ends the process. What
Lambda adds (fetching and unpacking the code, starting the sandbox) is not in it.

    python -m bench.coldstart [--runs 20]
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import time
from pathlib import Path

from bench import measure
from local import ROOT
from local.build import FUNCTIONS

GOALS_MS = {"land": 20, "promote": 20, "stage": 30, "replay": 20}


def first_poll(binary: Path) -> float:
    """Milliseconds from exec to the first poll."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]
        env = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "SLUICEGATE_INBOX_BUCKET": "inbox",
            "SLUICEGATE_LAKE_BUCKET": "lake",
            "SLUICEGATE_STAGE_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/0/stage",
            "SLUICEGATE_STAGE_REPLAY_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/0/stage-replay",
            "SLUICEGATE_PROMOTE_REPLAY_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/0/promote-replay",
            "SLUICEGATE_PROMOTE_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/0/promote",
            "SLUICEGATE_COPY_CONDITION": "on",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
        }
        started = time.monotonic()
        # It is killed while it polls, and says so.
        process = subprocess.Popen([binary], env=env, stderr=subprocess.DEVNULL)
        try:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10)
                request = connection.recv(4096)
            took = time.monotonic() - started
        finally:
            process.kill()
            process.wait()
        if b"/invocation/next" not in request:
            raise SystemExit(f"{binary.name} asked for something else first: {request[:80]!r}")
        return took * 1000


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--runs", type=int, default=20)
    options = arguments.parse_args()
    print(f"{measure.machine()}; medians of {options.runs}\n")
    print("| function | bootstrap, MB | exec to first poll, ms | worst, ms | goal, ms |")
    print("|---|---:|---:|---:|---:|")
    for name in FUNCTIONS:
        binary = ROOT / "target/release" / name
        first_poll(binary)
        times = [first_poll(binary) for _ in range(options.runs)]
        size = binary.stat().st_size / 1e6
        print(f"| {name} | {size:.1f} | {statistics.median(times):.1f} | {max(times):.1f} | {GOALS_MS[name]} |")


if __name__ == "__main__":
    main()
