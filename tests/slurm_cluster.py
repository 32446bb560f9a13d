"""A real SLURM cluster of one node on this machine, with pretend GPUs: for tests, started by root.

Debian's packages slurm-wlm and munge are all that it needs. Jobs do not get SLURM_CONF, so the configuration has to be
where SLURM was compiled to look for it: a machine that has one of its own is never touched. By hand:

    python tests/slurm_cluster.py start     # then: snakemake --profile profiles/slurm
    python tests/slurm_cluster.py stop
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = Path("/etc/slurm")
STATE = Path("/var/tmp/corpusmith-slurm")
GPUS = 4
# A machine with fewer cores pretends to have more: the jobs of a tiny build want little of one.
CPUS = 16
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol", "sinfo")
_MARK = "# made by tests/slurm_cluster.py"
_SECONDS_TO_START = 120.0
# Tests ask squeue for jobs that ended long ago, and machines of tests may be slow or stand still for a while: of the
# times in SLURM's configuration those that it would lose or forget a job after are long.

_SLURM_CONF = """\
{mark}
ClusterName=pretended
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={state}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/node
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=0
ReturnToService=2
MinJobAge=14400
KillWait=10
BatchStartTimeout=120
MessageTimeout=60
InactiveLimit=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:pretended:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=02:00:00 DefMemPerCPU=500 State=UP
PartitionName=short Nodes={host} MaxTime=00:05:00 DefMemPerCPU=500 State=UP
"""


def why_not() -> str | None:
    """Why there can be no such cluster here; None where there can."""
    if os.geteuid() != 0:
        return "only root can start a SLURM cluster"
    missing = [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]
    if missing:
        return f"no SLURM here (install slurm-wlm and munge): {', '.join(missing)}"
    conf = CONFIGURATION / "slurm.conf"
    if conf.exists() and not conf.read_text(errors="replace").startswith(_MARK):
        return f"this machine has a SLURM configuration of its own: {conf}"
    return None


def start() -> None:
    """Starts munge, the controller and the node, and waits until jobs can run. Raises RuntimeError where none can."""
    stop()
    shutil.rmtree(STATE, ignore_errors=True)
    for folder in (STATE, STATE / "controller", STATE / "node", CONFIGURATION):
        folder.mkdir(parents=True, exist_ok=True)
    os.chmod(STATE, 0o755)
    _write_configuration()
    _start_munge()
    _run("slurmctld")
    start_node()
    _wait_for("the node", lambda: "idle" in _said("sinfo", "-h", "-o", "%T"))


def start_node() -> None:
    """Starts the node's daemon, also after `stop_node`."""
    _run("slurmd")


def stop_node(number: int = signal.SIGKILL) -> None:
    """Ends the node's daemon, as a node that goes away does; what it runs goes on."""
    _end("slurmd", number)


def stop() -> None:
    """Ends what `start` started, jobs included."""
    if (STATE / "slurmctld.pid").exists():
        subprocess.run(["scancel", "--user", "root"], capture_output=True, timeout=120, check=False)
        time.sleep(0.5)
    for name in ("slurmd", "slurmctld", "munged"):
        _end(name, signal.SIGTERM)
    conf = CONFIGURATION / "slurm.conf"
    if conf.exists() and conf.read_text(errors="replace").startswith(_MARK):
        for name in ("slurm.conf", "gres.conf"):
            (CONFIGURATION / name).unlink(missing_ok=True)


@contextmanager
def cluster() -> Iterator[None]:
    """The cluster, while the `with` block lasts."""
    start()
    try:
        yield
    finally:
        stop()


def _write_configuration() -> None:
    host = socket.gethostname().split(".")[0]
    text = _SLURM_CONF.format(mark=_MARK, host=host, state=STATE, cpus=CPUS, memory=_memory_mb(), gpus=GPUS)
    (CONFIGURATION / "slurm.conf").write_text(text)
    devices = [STATE / f"gpu{number}" for number in range(GPUS)]
    for device in devices:
        # Plain files would leave CUDA_VISIBLE_DEVICES unset; this is a second name of /dev/null.
        os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))
    names = "".join(f"Name=gpu Type=pretended File={device}\n" for device in devices)
    (CONFIGURATION / "gres.conf").write_text(f"{_MARK}\n{names}")


def _start_munge() -> None:
    key = STATE / "munge.key"
    key.write_bytes(os.urandom(1024))
    owner = pwd.getpwnam("munge")
    os.chown(key, owner.pw_uid, owner.pw_gid)
    key.chmod(0o400)
    options = ["--key-file", key, "--socket", STATE / "munge.socket", "--pid-file", STATE / "munged.pid"]
    options += ["--log-file", STATE / "munged.log", "--seed-file", STATE / "munge.seed", "--force"]
    subprocess.run([_found("munged"), *map(str, options)], check=True, capture_output=True, timeout=120)


def _run(name: str) -> None:
    subprocess.run([_found(name)], check=True, capture_output=True, timeout=120)
    if name == "slurmctld":
        _wait_for("the controller", lambda: "UP" in _said("scontrol", "ping"))


def _end(name: str, number: int) -> None:
    try:
        process = int((STATE / f"{name}.pid").read_text())
    except (OSError, ValueError):
        return
    running = Path(f"/proc/{process}")
    # A number may have been given to another process since.
    if running.exists() and name in (running / "cmdline").read_text():
        os.kill(process, number)
        for _ in range(100):
            if not running.exists():
                break
            time.sleep(0.1)
        else:
            os.kill(process, signal.SIGKILL)
    (STATE / f"{name}.pid").unlink(missing_ok=True)


def _wait_for(what: str, there: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < end:
        if there():
            return
        time.sleep(0.1)
    logs = "".join(path.read_text(errors="replace")[-2000:] for path in sorted(STATE.glob("*.log")))
    raise RuntimeError(f"{what} of the pretended cluster does not come up:\n{logs}")


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _found(name: str) -> str:
    found = shutil.which(name, path=_path())
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["start", "stop"])
    arguments = parser.parse_args()
    if arguments.action == "stop":
        stop()
        return
    reason = why_not()
    if reason is not None:
        raise SystemExit(reason)
    start()
    print(_said("sinfo", "-N", "-l"), end="")


if __name__ == "__main__":
    main()
