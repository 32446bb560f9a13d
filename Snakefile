"""Reads and checks the config, includes the rules, names the targets."""

import json
import re
import shlex
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

min_version("9.27")

# A config of the user's replaces the demo's, in the jobs of a cluster too.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/asking.smk"
include: "rules/filtering.smk"
include: "rules/solving.smk"
include: "rules/publishing.smk"
include: "rules/instructing.smk"
include: "rules/training.smk"
include: "rules/evaluating.smk"
include: "rules/toy.smk"
include: "rules/fetch.smk"
include: "rules/generate.smk"
include: "rules/score.smk"
include: "rules/filter.smk"
include: "rules/translation.smk"
include: "rules/maths.smk"
include: "rules/instructions.smk"
include: "rules/release.smk"
include: "rules/evaluate.smk"
include: "rules/evaluate_models.smk"
include: "rules/report.smk"
include: "rules/store.smk"
include: "rules/preflight.smk"
include: "rules/publish.smk"
include: "rules/train.smk"
include: "rules/running.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        expand("{results}/{dataset}/release/manifest.json", results=RESULTS, dataset=CONFIG["datasets"]),
        expand("{results}/folders/{folder}/release/manifest.json", results=RESULTS, folder=CONFIG["folders"]),
        expand("{results}/{dataset}/run-stats.json", results=RESULTS, dataset=layout.asking_datasets(CONFIG)),
        expand("{results}/{dataset}/quality.json", results=RESULTS, dataset=layout.toy_datasets(CONFIG)),
        expand(
            "{results}/{dataset}/evaluation/metrics.json", results=RESULTS, dataset=layout.evaluated_datasets(CONFIG)
        ),
        tuned_receipts(),
        evaluations.comparisons(CONFIG),
