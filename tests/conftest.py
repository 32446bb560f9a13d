"""What all tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast the machine is while it does other things, too, is no matter of these tests.
settings.register_profile("any_speed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_speed")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _bytecode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where Python keeps no bytecode, each program compiles its libraries anew, which is most of a small one's time."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.dont_write_bytecode:
            own = tmp_path_factory.getbasetemp()
            # Tests that run side by side share it.
            shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
            patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            patch.setenv("PYTHONPYCACHEPREFIX", str(shared / "bytecode"))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real text beside the checkout; tests that use it are skipped where it is not."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no shared/data beside the checkout")
    return SHARED_DATA


def hear_ctrl_c() -> None:
    """For a process that tests start: Ctrl-C ends it, also where this one runs in the background and is deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# Those that take longest, first: what begins last should be short, as the tests of a file run one after the other.
# Those that need the release that test_build.py builds wait less where they begin later.
_LONGEST = (
    "build", "slurm", "vllm_engine", "instructions_build", "maths_build", "vllm_server", "metricx_golden",
    "openai_engine", "build_killed", "store_targets", "label_filter", "check_solutions",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole builds begin first, where several processes share the files."""
    places = {f"test_{name}.py": place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
