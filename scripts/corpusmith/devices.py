"""The devices of this job against what it was asked to use."""

from __future__ import annotations

import os
import subprocess
import sys

from corpusmith.errors import InputError


def check_devices(device: str, count: int, flag: str = "--tp") -> None:
    """Raises InputError where fewer GPUs are visible than a flag asks for; on a CPU, fixes the threads.

    The threads follow OMP_NUM_THREADS, so that results do not depend on the machine's cores.
    """
    import torch  # seconds that a program without work for a model need not spend

    if device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        return
    found = torch.cuda.device_count()
    if found < count:
        raise too_few_gpus(count, found, flag)


# In a process of its own: one that has looked at its GPUs holds some of their memory, and cannot be told others.
_MEMORY = """
import torch
print(min(torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count())))
"""


def gpu_memory() -> int:
    """Bytes of the smallest of the visible GPUs. Raises InputError where torch cannot tell."""
    done = subprocess.run([sys.executable, "-c", _MEMORY], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise InputError(f"torch does not find the memory of the GPUs of this job: {last_line}")
    return int(done.stdout)


def too_few_gpus(count: int, found: int, flag: str = "--tp") -> InputError:
    """What to say where fewer GPUs are there than a flag asks for."""
    return InputError(
        f"{flag} {count} asks for {count} GPUs, this job sees {found}; under Snakemake, ask for enough with"
        f" --resources gpu={count} or a partition that has them, or set device: cpu"
    )
