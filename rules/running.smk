"""Around a build: it works from a copy of code and config, follows its jobs safely, and says at its end what failed."""

from corpusmith.build_failures import Failures
from corpusmith.building import begin, report

if workflow.is_main_process:
    scripts.remember()
    FAILURES = Failures(workflow)
    logger.addHandler(FAILURES)


onstart:
    begin(workflow, scripts, config, logger)


onerror:
    report(workflow, FAILURES, logger)
