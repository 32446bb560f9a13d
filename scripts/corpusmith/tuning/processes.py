"""A training in several processes of this machine, one for each GPU: accelerate, inside TRL's trainers, joins them.

Run as a program, this is one of those processes; its only word is the folder with job.json.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from corpusmith.errors import InputError
from corpusmith.files import read_json, write_json
from corpusmith.program import log, run
from corpusmith.stopping import Stopping
from corpusmith.tuning.job import Job
from corpusmith.tuning.training import Outcome, train

_JOB, _STOP, _OUTCOME = "job.json", "stop", "outcome.json"
_SECONDS_BETWEEN_LOOKS = 0.5


def train_in_processes(job: Job, folder: Path, stopping: Stopping) -> Outcome | None:
    """Trains in as many processes as the job has GPUs. folder: where they are told what to do, and tell what they did.

    Returns None where the training had to stop. Raises InputError where a process failed; its own lines say why.
    """
    for name in (_STOP, _OUTCOME):
        (folder / name).unlink(missing_ok=True)
    job.write(folder / _JOB)
    # torchrun ends all processes where one fails. It gets its own session, as the processes are told to stop by a file.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job.gpus}"]
    command += ["--module", __name__, str(folder)]
    scripts = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [scripts, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        with stopping.attended():
            while True:
                try:
                    process.wait(_SECONDS_BETWEEN_LOOKS)
                    break
                except subprocess.TimeoutExpired:
                    if stopping.reason is None:
                        continue
                    (folder / _STOP).touch()
                    if stopping.expired():
                        log.warning("the step under way takes too long: what came after the last checkpoint is lost")
                        break
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if stopping.reason is not None and not (folder / _OUTCOME).is_file():
        return None
    if process.returncode != 0:
        raise InputError(f"one of {job.gpus} processes of the training failed; the lines above say why")
    return Outcome(**read_json(folder / _OUTCOME))


def main() -> None:
    """One of the processes."""
    folder = Path(sys.argv[1])
    # The one that started them says when to stop: all of them at the same step.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    outcome = train(Job.read(folder / _JOB), (folder / _STOP).exists)
    if outcome is not None and os.environ["RANK"] == "0":
        write_json(folder / _OUTCOME, asdict(outcome))


if __name__ == "__main__":
    run(main)
