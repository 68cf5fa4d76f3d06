"""The local pipeline: an emulated AWS, the functions built for this machine and the real template deployed to it.

Shared by `make demo`, `make test` and the end-to-end tests. Everything it writes is under `.local/`; every server binds
127.0.0.1 on a port that was free, so that any number of runs share a machine.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
EXAMPLE = ROOT / "examples" / "flights"
REGION = "us-east-1"
KEY_ID = SECRET = "test"


class Trouble(Exception):
    """What went wrong, in words for whoever started the run: shown without a traceback."""
