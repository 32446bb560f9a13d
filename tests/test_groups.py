"""Groups of small jobs, as profiles/slurm submits them: what leaves one may not come back to it."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from checkout import Checkout, need_control
from conftest import ROOT


def test_all_filters_of_all_recipes_are_planned_for_a_cluster(tmp_path: Path) -> None:
    need_control()
    (tmp_path / "benchmark.txt").write_text("A benchmark.")
    (tmp_path / "judge.txt").write_text("Is it right? {{ instruction }} {{ response }}")
    judge = {"model": "toy-base", "prompt": str(tmp_path / "judge.txt"), "verdicts": ["yes", "no"], "accept": ["yes"]}
    filters = {
        "deduplicate": {}, "neighbours": {"model": "toy-base"}, "safety": {}, "judge": judge, "best": {"rows": 10},
        "decontaminate": {"benchmarks": [str(tmp_path / "benchmark.txt")]},
    }  # fmt: skip
    of_all = {name: {"filter": filters} for name in ("toy-translation", "toy-maths", "toy-maths-hard")}
    of_all["toy-instructions"] = {
        "filter": {**filters, "best": {"rows": 10, "by": {"column": "reward", "order": "highest"}}}
    }
    config = tmp_path / "everything.yaml"
    config.write_text(yaml.safe_dump({"datasets": of_all}))
    checkout = Checkout(tmp_path / "clone", tmp_path / "environments")
    planned = checkout.plan("--configfile", "config/config.yaml", str(config), profile="slurm")
    assert (planned["apply_verdicts"], planned["keep_best"], planned["build_preferences"]) == (4, 4, 1)


def test_requests_of_many_shards_are_one_job_in_every_step() -> None:
    """What a profile joins goes by the name of a group as its rule writes it, and shards have many small jobs each."""
    rules = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    groups = {group for group in re.findall(r'    group:\n        "([^"]+)"', rules) if group.endswith("-requests")}
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "profile.yaml").read_text(encoding="utf-8"))
    joined = [entry.partition("=") for entry in profile["group-components"]]
    assert {name for name, _, _ in joined} == groups
    assert len(groups) == 8
    assert {shards for _, _, shards in joined} == {"16"}
