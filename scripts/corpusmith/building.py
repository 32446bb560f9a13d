"""Where a build begins and ends, as the Snakefile's hooks tell it: what Snakemake itself does not do.

Reaches into Snakemake's workflow: tests/test_slurm.py runs it for real with the versions that envs/control.lock pins.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from snakemake.cli import parse_args
from snakemake.exceptions import WorkflowError
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from corpusmith.build_code import CONFIG, BuildCode
from corpusmith.build_failures import Failures
from corpusmith.cluster import check_cluster, why_waiting
from corpusmith.errors import InputError
from corpusmith.job_watch import JobWatch

_COPIES = Path(".snakemake") / "corpusmith"


def executor_settings(workflow: Any) -> Any:
    """What the executor was told by profile and command line; None where it has no settings.

    A dry run does not hand that on: there the command line is read once more, by Snakemake's own means.
    """
    if not workflow.dryrun or Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return workflow.executor_settings
    # It says again which profile it uses.
    with redirect_stderr(StringIO()):
        _, flags = parse_args(sys.argv[1:])
    if flags.executor is None:
        return None
    return ExecutorPluginRegistry().get_plugin(flags.executor).get_settings(flags)


def begin(workflow: Any, code: BuildCode, config: Mapping[str, Any], log: logging.Logger) -> None:
    """Before the first job: the build gets its copy of code and config, and a cluster that it can follow its jobs on.

    Raises WorkflowError where it could not.
    """
    settings = workflow.executor_settings
    try:
        # Of SLURM's settings; other executors have none of that name.
        if hasattr(settings, "status_command"):
            for warning in check_cluster(settings.status_command, settings.init_seconds_before_status_checks):
                log.warning(warning)
            plugin: Any = import_module(type(settings).__module__)
            plugin.query_job_status = JobWatch(plugin.query_job_status, why_waiting, log)
        copy = code.freeze(config, _COPIES)
    except (InputError, OSError) as error:
        raise WorkflowError(str(error)) from None
    # Jobs are told to read these, whatever the files that they came from say by then.
    workflow.config_settings.configfiles = [copy / CONFIG]
    workflow.config_settings.config_args = []
    workflow.scheduler._executor.snakefile = str(copy / "Snakefile")


def report(workflow: Any, failures: Failures, log: logging.Logger) -> None:
    """After a build that failed: which targets, why, and where their logs are."""
    scheduler = workflow.scheduler
    failed = set() if scheduler is None else set(scheduler.failed)
    if not failed:
        return
    waiting = sum(1 for job in workflow.dag.needrun_jobs() if not workflow.dag.finished(job))
    begun = sum(len(job.jobs) if job.is_group() else 1 for job in failed)
    log.error("\n".join(["", *failures.lines(failed, max(0, waiting - begun))]))
