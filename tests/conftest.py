"""What all tests share."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real text beside the checkout; tests that use it are skipped where it is not."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no shared/data beside the checkout")
    return SHARED_DATA


def hear_ctrl_c() -> None:
    """For a process that tests start: Ctrl-C ends it, also where this one runs in the background and is deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
