"""What is known of a SLURM cluster: its partitions, and whether a build could wait there for ever.

Asked of SLURM itself, by its own commands, and read from the file of partitions that the executor takes.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from corpusmith.errors import InputError

_SECONDS = 20.0
# The executor looks at its jobs after a while, then ever more seldom, at last this often.
_LONGEST_PAUSE = 180
_NO_ACCOUNTING = ("accounting_storage/none", "(null)")


@dataclass(frozen=True)
class Partition:
    """What a node of a partition has, and how long a job may take there; None is what nobody tells.

    gpus, cpus: of one node; minutes: the longest wall time; memory_mb: of one node; gpu_models: names of its GPUs.
    """

    name: str
    gpus: int | None = None
    minutes: float | None = None
    memory_mb: float | None = None
    cpus: float | None = None
    gpu_models: frozenset[str] | None = None
    is_default: bool = False


def asked_partitions() -> list[Partition]:
    """The partitions as sinfo lists them; none where there is no SLURM, or it does not answer."""
    if shutil.which("sinfo") is None:
        return []
    try:
        # Hidden partitions, too; and not nodes that differ on one line, with the least that any of them has.
        return parse_sinfo(_said("sinfo", "--all", "--noheader", "--exact", "--format=%P|%G|%l|%m|%c"))
    except (OSError, subprocess.SubprocessError):
        return []


def parse_sinfo(text: str) -> list[Partition]:
    """Partitions from lines such as `gpu*|gpu:a100:4(S:0-1)|1-00:00:00|515000|64`; of several lines, the largest."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        name, resources, limit, memory, cpus = (line.strip().split("|") + [""] * 5)[:5]
        if not name.rstrip("*"):
            continue
        gpus, models = _gpus_of(resources)
        partition = Partition(
            name.rstrip("*"), gpus, _minutes(limit), _most(memory), _most(cpus), models, name.endswith("*")
        )
        before = found.get(partition.name)
        found[partition.name] = partition if before is None else _larger(before, partition)
    return list(found.values())


def read_partitions(path: str | Path) -> list[Partition]:
    """The partitions of a file as snakemake-executor-plugin-slurm reads it. Raises InputError."""
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["partitions"].items()
        return [_of_file(str(name), entry or {}) for name, entry in entries]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; it is named in slurm-partition-config of the profile") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no file of partitions ({reason}); see profiles/slurm/partitions.yaml") from None


def both(file: Iterable[Partition], asked: Iterable[Partition]) -> dict[str, Partition]:
    """What file and cluster tell of each partition, the tighter limit of two."""
    found = {partition.name: partition for partition in asked}
    for partition in file:
        other = found.get(partition.name)
        found[partition.name] = partition if other is None else _tighter(partition, other)
    return found


def why_waiting() -> dict[str, str]:
    """Of the user's jobs that SLURM will not start by itself: the number of each, and why, with what to do."""
    try:
        lines = _said("squeue", "--me", "--noheader", "--states=PENDING", "--format=%i|%r").splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {}
    for number, _, reason in (line.partition("|") for line in lines):
        advice = next((advice for pattern, advice in _STUCK if pattern.search(reason)), None)
        if advice is not None:
            found[number.strip()] = f"{reason.strip()}; {advice.format(number=number.strip())}"
    return found


# Reasons of squeue that time alone does not change: https://slurm.schedmd.com/job_reason_codes.html
_STUCK = [
    (re.compile(pattern, re.IGNORECASE), advice)
    for pattern, advice in (
        (r"held", "scontrol release {number} lets it go on"),
        (r"PartitionTimeLimit|MaxWall", "ask for less wall time (runtime, runtime_minutes), then scancel {number}"),
        (r"PartitionNodeLimit|BadConstraints|NodeConfig", "no node is like that; change it, then scancel {number}"),
        (r"PartitionDown|PartitionInactive|NodeDown", "the partition is closed; ask who runs it"),
        (r"InvalidAccount|InvalidQOS|NotPermitted|not permitted", "name another account or qos, then scancel {number}"),
    )
]


def check_cluster(status_command: str | None, first_check: int) -> list[str]:
    """Warnings about how the build will follow its jobs. Raises InputError where it would wait for ever.

    status_command, first_check: slurm-status-command and slurm-init-seconds-before-status-checks of the profile.
    """
    try:
        settings = _settings(_said("scontrol", "show", "config"))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        # Of a command that was given up, what it said is bytes.
        said = said.decode(errors="replace") if isinstance(said, bytes) else said
        raise InputError(f"SLURM does not answer here (scontrol show config: {' '.join(said.split())})") from None
    if shutil.which("sacct") is None or shutil.which("sacctmgr") is None:
        raise InputError(
            "the commands sacct and sacctmgr are not on the PATH: the SLURM executor asks them for accounts, also where"
            " none are kept; install SLURM's client programs on this machine"
        )
    accounts = settings.get("AccountingStorageType", "(null)") not in _NO_ACCOUNTING
    age = _number(settings.get("MinJobAge", ""))
    # So the executor chooses: squeue only where it is sure to see a job that has ended.
    by_squeue = status_command == "squeue" and age is not None and age >= 3 * first_check
    if by_squeue or accounts:
        forgotten = by_squeue and age is not None and age <= _LONGEST_PAUSE
        return [_FORGETS.format(age=f"{age:g}")] if forgotten else []
    if status_command != "squeue":
        raise InputError(
            "this cluster keeps no accounts, and sacct cannot tell how jobs are: the build would wait for ever; set"
            " slurm-status-command: squeue in the profile"
        )
    seconds = int((age or 0) // 3)
    what = (
        f"set slurm-init-seconds-before-status-checks: {seconds} in the profile"
        if seconds
        else "have MinJobAge raised in slurm.conf, to 300 or more"
    )
    raise InputError(
        f"this cluster keeps no accounts and forgets jobs {age or 0:g} s after their end (MinJobAge): the build could"
        f" wait for ever; {what}"
    )


_FORGETS = (
    "this cluster forgets jobs {age} s after their end (MinJobAge), and the build looks every 180 s at last: one that"
    " is missed counts as failed, and is tried again. Where the cluster keeps accounts, set slurm-status-command: sacct"
)


def _said(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS, check=True
    )
    return done.stdout


def _settings(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _gpus_of(resources: str) -> tuple[int, frozenset[str] | None]:
    """GPUs of a node and their models from sinfo's %G: gpu:4, gpu:1080ti:2(S:0-1),gpu:h100:2, (null)."""
    count, models = 0, set()
    for match in re.finditer(r"(?:^|,)gpu(?:(?::([^:,]+))?:(\d+))?(?=,|$)", re.sub(r"\([^)]*\)", "", resources)):
        count += int(match[2] or 1)
        models |= {match[1]} - {None}
    return count, frozenset(models) or None


def _minutes(limit: str) -> float | None:
    """Of 30:00, 2:00:00, 1-00:00:00, 5:00, infinite."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + minutes + seconds / 60


def _number(text: str) -> float | None:
    match = re.match(r"\d+", text.strip())
    return None if match is None else float(match[0])


def _most(text: str) -> float | None:
    """A number of sinfo's; none where it says no more than that it is larger: 515000+."""
    return None if text.rstrip().endswith("+") else _number(text)


def _of_file(name: str, entry: dict[str, Any]) -> Partition:
    models = entry.get("available_gpu_models")
    cpus = [float(entry[key]) for key in ("max_threads", "max_cpus_per_task") if key in entry]
    return Partition(
        name=name,
        # Without a word about GPUs the executor takes a partition for one without.
        gpus=int(entry.get("max_gpu", 0)),
        minutes=_minutes_of_file(entry.get("max_runtime", math.inf)),
        memory_mb=float(entry["max_mem_mb"]) if "max_mem_mb" in entry else None,
        cpus=min(cpus) if cpus else None,
        # An empty list tells the executor nothing, and text is to it a list of one.
        gpu_models=frozenset([models] if isinstance(models, str) else models or []) or None,
    )


def _minutes_of_file(limit: Any) -> float | None:
    """max_runtime as the executor reads it. Raises ValueError."""
    from snakemake_executor_plugin_slurm.utils import parse_time_to_minutes
    from snakemake_interface_common.exceptions import WorkflowError

    if limit == math.inf:
        return None
    try:
        return float(parse_time_to_minutes(limit))
    except WorkflowError as error:
        raise ValueError(error) from None


def _larger(one: Partition, other: Partition) -> Partition:
    def most(one: float | None, other: float | None) -> float | None:
        return None if one is None or other is None else max(one, other)

    models = (one.gpu_models or frozenset()) | (other.gpu_models or frozenset())
    return Partition(
        one.name,
        max(one.gpus or 0, other.gpus or 0),
        most(one.minutes, other.minutes),
        most(one.memory_mb, other.memory_mb),
        most(one.cpus, other.cpus),
        models or None,
        one.is_default or other.is_default,
    )


def _tighter(one: Partition, other: Partition) -> Partition:
    def least(*values: float | None) -> float | None:
        return min((value for value in values if value is not None), default=None)

    gpus = least(one.gpus, other.gpus)
    return Partition(
        one.name,
        None if gpus is None else int(gpus),
        least(one.minutes, other.minutes),
        least(one.memory_mb, other.memory_mb),
        least(one.cpus, other.cpus),
        one.gpu_models or other.gpu_models,
        one.is_default or other.is_default,
    )
