"""Where everything lies: the documented layout, for configs with and without limit, judge and toy sources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from corpusmith import layout
from corpusmith.config import resolve_config
from corpusmith.recipes import maths

JUDGE = {
    "model": "judge-model",
    "prompt": "judge.txt",
    "verdicts": ["good", "bad"],
    "accept": ["good"],
    "shards": 3,
}
TOY_SOURCES = {"toy": {"documents": 10}, "pool": 100}
FILES = {"files": ["corpus/*.jsonl.gz"], "pool": 1000}


def config_of(
    sources: Mapping[str, Any] = FILES,
    judge: Mapping[str, Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    **top: Any,
) -> dict[str, Any]:
    """A checked config of one dataset, with models from the Hub, from a folder and of the toy world."""
    dataset = {
        "recipe": "translation",
        "source_language": {"code": "en", "name": "English"},
        "target_language": {"code": "ko", "name": "Korean"},
        "sources": dict(sources),
        "prefilter": {"model": "small", "scorer": "metricx", "keep": 50, "shards": 2},
        "final": {"model": "large", "scorer": "metricx-large", "shards": 4},
        "filter": {"judge": judge, **(filters or {})},
        "splits": {"train": 0.9, "test": 0.1},
    }
    return resolve_config(
        {
            "models": {
                "small": {"engine": "transformers", "toy": {}, "device": "cpu"},
                "large": {"engine": "transformers", "repo": "google/gemma-3-27b-it", "tp": 4},
                "judge-model": {"engine": "transformers", "path": "models/judge", "device": "cpu", "tp": 1},
                "unused": {"engine": "transformers", "repo": "a/b"},
            },
            "scorers": {
                "metricx": {"metric": "metricx-24", "toy": {}, "device": "cpu"},
                "metricx-large": {"metric": "metricx-24", "repo": "g/xl", "tokenizer": {"repo": "google/mt5-xl"}},
            },
            "datasets": {"news": dataset},
            **top,
        }
    )


PLAIN = config_of()
JUDGED = config_of(judge=JUDGE)
TOY = config_of(sources=TOY_SOURCES, judge=JUDGE)


def maths_config(**keys: Any) -> dict[str, Any]:
    """A checked config of a dataset of the maths recipe."""
    dataset = {"recipe": "maths", "sources": {"files": ["problems.jsonl"]}, **keys}
    return resolve_config({"models": PLAIN["models"], "datasets": {"news": dataset}})


SOLVED = maths_config(
    solve={"model": "large", "shards": 2},
    judge={"model": "small"},
    select={"solutions": "generated"},
    filter={"deduplicate": {}},
)
FILTERED = config_of(
    judge=JUDGE,
    filters={
        "deduplicate": {},
        "decontaminate": {"benchmarks": ["test.jsonl"]},
        "safety": {},
        "best": {"rows": 100, "by": {"column": "score", "order": "lowest"}},
    },
)


def relative(paths: list[Path]) -> list[str]:
    return [path.as_posix() for path in paths]


def outputs_of_rules() -> list[re.Pattern[str]]:
    """What the rules write below the folder of results, as patterns."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    sections = re.findall(r"\n    output:\n(.*?)\n    \w+:", text, flags=re.DOTALL)
    names = re.findall(r'"<results>/\{dataset\}/([^"]+)"', "".join(sections))
    assert len(names) > 20
    kinds = {"shard": r"\d+-of-\d+", "split": "[a-z]+", "step": "[a-z-]+"}
    return [re.compile("".join(kinds.get(part, re.escape(part)) for part in re.split(r"[{}]", name))) for name in names]


# --- folders ---


def test_results_lie_in_results_and_with_a_limit_beside_it() -> None:
    assert layout.results_folder(config_of()) == "results"
    assert layout.results_folder(config_of(limit=200)) == "results-limit-200"
    assert layout.results_folder(config_of(results="scratch/out")) == "scratch/out"
    assert layout.results_folder(config_of(results="scratch/out", limit=5)) == "scratch/out-limit-5"


@given(limits=st.lists(st.none() | st.integers(1, 10**9), min_size=2, max_size=4, unique=True))
def test_different_limits_never_share_a_folder(limits: list[int | None]) -> None:
    assert len({layout.results_folder({"results": "results", "limit": limit}) for limit in limits}) == len(limits)


def test_all_limits_share_the_models_of_the_toy_world() -> None:
    folders = {layout.models_folder(config_of(limit=limit)) for limit in (None, 5, 200)}
    assert folders == {"results/models"}
    assert {layout.receipt_of(config_of(limit=limit), "small") for limit in (None, 5)} == {
        "results/models/small/receipt.json"
    }


def test_receipts_lie_with_the_fetched_or_the_built_model() -> None:
    assert layout.receipt_of(PLAIN, "small") == "results/models/small/receipt.json"
    assert layout.receipt_of(PLAIN, "metricx") == "results/models/metricx/receipt.json"
    assert layout.receipt_of(PLAIN, "large") == "resources/models/large/fetch.json"
    assert layout.receipt_of(PLAIN, "judge-model") == "resources/models/judge-model/fetch.json"


def test_a_scorer_s_tokenizer_lies_beside_it_unless_it_comes_from_elsewhere() -> None:
    assert layout.tokenizer_receipt_of(PLAIN, "metricx") == layout.receipt_of(PLAIN, "metricx")
    assert layout.tokenizer_receipt_of(PLAIN, "metricx-large") == "resources/models/metricx-large/tokenizer.json"


def test_entries_name_one_file_or_one_for_each_shard() -> None:
    entries = ["sources/segments", "final/scores=2"]
    assert relative(layout.expand("results/news", entries, ".parquet")) == [
        "results/news/sources/segments.parquet",
        "results/news/final/scores/0000-of-0002.parquet",
        "results/news/final/scores/0001-of-0002.parquet",
    ]
    assert layout.expand(Path("results"), [], ".parquet") == []


# --- the way of the data ---


def test_every_table_of_a_build_in_order() -> None:
    assert layout.tables(PLAIN, "news") == [
        "sources/segments",
        "sources/bad_rows",
        "prefilter/requests=2",
        "prefilter/completions=2",
        "prefilter/scores=2",
        "prefilter/dropped",
        "final/sources",
        "final/requests=4",
        "final/completions=4",
        "final/scores=4",
        "final/selected=4",
        "final/dropped=4",
        "checked/kept",
        "checked/rejected",
        "filtered/train",
        "filtered/test",
        "filtered/rejected",
    ]


def test_a_judge_is_a_step_between_the_rules_and_the_splits() -> None:
    tables = layout.tables(JUDGED, "news")
    assert tables[:-3] == [
        *layout.tables(PLAIN, "news")[:-3],
        "filter-judge/requests=3",
        "filter-judge/completions=3",
        "judged/kept",
        "judged/rejected",
    ]
    assert tables[-3:] == ["filtered/train", "filtered/test", "filtered/rejected"]
    assert layout.filters(PLAIN, "news") == ["checked"]
    assert layout.filters(JUDGED, "news") == ["checked", "judged"]


def test_the_stages_of_a_build_in_order() -> None:
    stages = [
        "sources/read",
        "sources/sample",
        "prefilter/completions=2",
        "prefilter/scores=2",
        "prefilter/select",
        "final/completions=4",
        "final/scores=4",
        "final/selected=4",
        "checked",
    ]
    assert layout.stages(PLAIN, "news") == stages
    assert layout.stages(JUDGED, "news") == [*stages, "filter-judge/completions=3", "judged"]


def test_what_was_dropped_between_the_pool_and_the_release() -> None:
    for config in (PLAIN, JUDGED):
        assert layout.dropped(config, "news") == ["prefilter/dropped", "final/dropped=4", "filtered/rejected"]
        assert set(layout.dropped(config, "news")) < set(layout.tables(config, "news"))


def test_the_tables_that_models_and_scorers_made() -> None:
    plain = ["prefilter/completions=2", "prefilter/scores=2", "final/completions=4", "final/scores=4"]
    assert layout.asking(PLAIN, "news") == plain
    assert layout.asking(JUDGED, "news") == [*plain, "filter-judge/completions=3"]
    baseline = ["baseline/completions=4", "baseline/scores=4"]
    assert layout.asking(TOY, "news") == [*plain, "filter-judge/completions=3", *baseline]


@pytest.mark.parametrize(
    "config", [PLAIN, JUDGED, TOY, FILTERED, SOLVED], ids=["plain", "judged", "toy", "filtered", "solved"]
)
def test_every_file_of_the_layout_is_the_output_of_a_rule(config: dict[str, Any]) -> None:
    patterns = outputs_of_rules()
    paths = [
        *layout.expand("", layout.tables(config, "news"), ".parquet"),
        *layout.expand("", layout.dropped(config, "news"), ".parquet"),
        *layout.expand("", layout.stages(config, "news"), ".account.json"),
        *layout.expand("", layout.side_stages(config, "news"), ".account.json"),
        *layout.expand("", layout.asking(config, "news"), ".run-stats.json"),
    ]
    assert len(paths) > 30
    orphans = [path for path in relative(paths) if not any(pattern.fullmatch(path) for pattern in patterns)]
    assert orphans == []


@pytest.mark.parametrize("config", [PLAIN, JUDGED, FILTERED, SOLVED], ids=["plain", "judged", "filtered", "solved"])
def test_no_table_is_named_twice(config: dict[str, Any]) -> None:
    for kind in (layout.tables, layout.stages, layout.asking):
        paths = layout.expand("", kind(config, "news"), "")
        assert len(set(paths)) == len(paths)


# --- filters of every recipe, and the maths recipe ---


def test_filters_come_in_their_order_and_each_reads_what_the_one_before_it_kept() -> None:
    assert layout.filters(FILTERED, "news") == ["checked", "deduplicated", "decontaminated", "safe", "judged", "best"]
    assert layout.kept_before(FILTERED, "news", "decontaminated") == "deduplicated"
    assert layout.kept_before(FILTERED, "news", "best") == "judged"
    assert layout.kept_before(JUDGED, "news", "judged") == "checked"
    assert layout.stages(FILTERED, "news")[-6:] == [
        "deduplicated", "decontaminated", "safe", "filter-judge/completions=3", "judged", "best",
    ]  # fmt: skip


def test_how_many_rows_stay_and_which_is_said_in_flags() -> None:
    assert layout.best_flags(FILTERED, "news") == ["--best", "100", "--by", "score", "lowest"]
    first = maths_config(filter={"best": {"rows": 7}})
    assert layout.best_flags(first, "news") == ["--best", "7"]


def test_safety_looks_wherever_releases_hold_texts_unless_columns_are_named() -> None:
    assert layout.safety_flags(FILTERED, "news") == ["--column", "source", "target", "top_k"]
    assert layout.safety_samples(FILTERED, "news") == []
    select = {"solve": {"model": "large"}, "select": {"solutions": "generated"}}
    whole = maths_config(**select, filter={"safety": {"phone_numbers": ["US", "KR"], "allow": ["*@a.com", "-x"]}})
    columns = [*maths.TEXTS]
    assert columns[:3] == ["problem", "answer", "generated_solution"]
    others = ["--regions", "US", "KR", "--allow=*@a.com", "--allow=-x"]
    assert layout.safety_flags(whole, "news") == ["--column", *columns, *others]
    assert layout.safety_samples(whole, "news") == ["selected/samples"]
    off = {"columns": ["answer"], "emails": False, "phone_numbers": False}
    part = maths_config(**select, filter={"safety": off})
    assert layout.safety_flags(part, "news") == ["--column", "answer", "--no-emails", "--no-phone-numbers"]
    assert layout.safety_samples(part, "news") == []
    only = maths_config(**select, filter={"safety": {"columns": ["samples"], "secrets": False}})
    assert layout.safety_flags(only, "news") == ["--column", "--no-secrets"]
    assert layout.safety_samples(only, "news") == ["selected/samples"]


def test_problems_that_are_solved_are_the_items_where_solutions_are_made_and_beside_the_way_where_rows_stay() -> None:
    solving = ["sources/problems", "solve/completions=2", "solve/graded=2"]
    assert layout.stages(SOLVED, "news") == ["sources/read", *solving, "selected", "deduplicated"]
    assert layout.side_stages(SOLVED, "news") == ["judge/completions=2"]
    assert layout.pool_table(SOLVED, "news") == "sources/problems"
    assert layout.samples(SOLVED, "news") == ["selected/samples"]
    kept = maths_config(solve={"model": "large", "shards": 2})
    assert layout.stages(kept, "news") == ["sources/read", "selected"]
    assert layout.side_stages(kept, "news") == solving
    assert (layout.pool_table(kept, "news"), layout.samples(kept, "news")) == ("sources/rows", [])
    assert layout.asking_datasets(kept) == ["news"]
    labelled = maths_config()
    assert layout.asking(labelled, "news") == layout.side_stages(labelled, "news") == []
    assert layout.asking_datasets(labelled) == []
    assert layout.environments(labelled, "news") == ["data"]
    assert layout.environments(kept, "news") == ["data", "maths", "transformers"]


def test_a_release_that_is_made_of_others_says_of_what_they_are_made() -> None:
    config = maths_config(solve={"model": "large"})
    third = {"recipe": "maths", "sources": {"dataset": ["news", "other"]}}
    other = {"recipe": "maths", "sources": {"dataset": ["news"]}}
    whole = resolve_config({**config, "datasets": {**config["datasets"], "third": third, "other": other}})
    found = layout.release_config(whole, "third")
    assert set(found["datasets"]) == {"third", "news", "other"}
    assert set(found["models"]) == {"large"}
    assert layout.release_config(resolve_config(found), "third") == found
    assert maths.origin_of(whole["datasets"]["third"], "third") == "news+other"


# --- an evaluation ---

REWARD = {"metric": "reward", "repo": "a/reward", "reward": {"form": "chat", "max_length": 4096}, "device": "cpu"}
EVALUATED = config_of()
EVALUATED["scorers"] |= resolve_config({**TOY, "scorers": {**TOY["scorers"], "reward": REWARD}})["scorers"]
EVALUATED["datasets"]["news"]["evaluation"] = {
    "references": {"files": ["right.jsonl"]},
    "metrics": {
        "qe": {"scorer": "metricx-large", "references": False},
        "judged.by": {"scorer": "reward", "references": True},
    },
    "max_failed": 0.5,
}


def test_the_metrics_of_an_evaluation_are_a_step_each_of_tables_that_they_share() -> None:
    assert layout.metric_steps(EVALUATED, "news") == {"qe": "evaluation-qe", "judged.by": "evaluation-judged.by"}
    assert layout.step_of(EVALUATED, "news", "evaluation-qe") == {
        "scorer": "metricx-large", "references": False, "shards": 1, "max_failed": 0.5,
    }  # fmt: skip
    assert layout.scored_step("evaluation-qe") == "evaluation"
    assert layout.scored_step("final") == "final"
    added = [*layout.asking(EVALUATED, "news")][len(layout.asking(PLAIN, "news")) :]
    assert added == ["evaluation-qe/scores=1", "evaluation-judged.by/scores=1"]
    assert layout.evaluation_flags(EVALUATED, "news") == [
        *("--metric", "qe", "lower", "results/news/evaluation-qe/scores"),
        *("--metric", "judged.by", "higher", "results/news/evaluation-judged.by/scores"),
    ]
    assert layout.evaluated_datasets(EVALUATED) == ["news"]


def test_no_evaluation_changes_a_release() -> None:
    assert layout.evaluated_datasets(PLAIN) == []
    for of in (layout.tables, layout.stages, layout.dropped, layout.models_of, layout.environments):
        assert of(EVALUATED, "news") == of(PLAIN, "news")
    assert layout.release_config(EVALUATED, "news") == layout.release_config(PLAIN, "news")


def test_each_kind_of_scorer_has_its_program_its_environment_and_its_flags() -> None:
    assert layout.scorer_program_of(EVALUATED, "metricx") == "score_metricx.py"
    assert layout.scorer_environment_of(EVALUATED, "metricx-large") == "metricx"
    assert layout.scorer_options(EVALUATED, "metricx", True) == []
    assert layout.scorer_options(EVALUATED, "metricx", False) == ["--no-references"]
    assert layout.scorer_program_of(EVALUATED, "reward") == "score_reward.py"
    assert layout.scorer_environment_of(EVALUATED, "reward") == "transformers-cpu"
    assert layout.scorer_options(EVALUATED, "reward", True) == ["--form", "chat", "--max-length", "4096"]
    assert layout.scorer_tuning(EVALUATED, "reward") == layout.scorer_tuning(EVALUATED, "metricx") == []


# --- what the config says of a step ---


def test_a_step_has_the_config_of_its_name_and_the_baseline_that_of_final() -> None:
    entry = TOY["datasets"]["news"]
    assert layout.step_of(TOY, "news", "prefilter") == entry["prefilter"]
    assert layout.step_of(TOY, "news", "final") == entry["final"]
    assert layout.step_of(TOY, "news", "baseline") == entry["final"]
    assert layout.step_of(TOY, "news", "filter-judge") == entry["filter"]["judge"]


def test_the_shards_of_a_step_are_named_by_number_and_count() -> None:
    assert layout.shards_of(PLAIN, "news", "prefilter") == ["0000-of-0002", "0001-of-0002"]
    assert layout.shards_of(PLAIN, "news", "final")[-1] == "0003-of-0004"
    assert layout.shards_of(JUDGED, "news", "filter-judge") == ["0000-of-0003", "0001-of-0003", "0002-of-0003"]


@pytest.mark.parametrize(("limit", "pool"), [(None, 1000), (200, 200), (1000, 1000), (5000, 1000)])
def test_a_limit_cuts_the_pool_and_never_widens_it(limit: int | None, pool: int) -> None:
    assert layout.pool_of(config_of(limit=limit), "news") == pool


def test_work_on_a_cpu_has_its_own_environment_and_no_gpu() -> None:
    assert layout.environment_of(PLAIN, "transformers", "small") == "transformers-cpu"
    assert layout.environment_of(PLAIN, "transformers", "large") == "transformers"
    assert layout.environment_of(PLAIN, "metricx", "metricx") == "metricx-cpu"
    assert layout.environment_of(PLAIN, "metricx", "metricx-large") == "metricx"
    assert [layout.gpus_of(PLAIN, name) for name in ("small", "large", "metricx", "metricx-large")] == [0, 4, 0, 1]


SERVED = resolve_config(
    {
        "models": {
            "server": {
                "engine": "openai",
                "openai": {
                    "base_url": "https://API.example.org:8443/v1",
                    "model": "large-2",
                    "api_key_variable": "KEY",
                    "concurrency": 7,
                    "extra_body": {"reasoning_effort": "low"},
                },
            },
            "own": {"engine": "vllm", "repo": "a/b", "tp": 2, "vllm": {"quantization": "fp8", "max_num_seqs": 9}},
            "own-on-cpu": {"engine": "vllm", "repo": "a/b", "device": "cpu"},
            "counter": {"engine": "transformers", "repo": "c/d"},
            "toy": {"engine": "transformers", "toy": {}, "device": "cpu"},
        },
        "scorers": {"metricx": {"metric": "metricx-24", "repo": "e/f"}},
        "datasets": {
            "news": {
                "recipe": "translation",
                "source_language": {"code": "en", "name": "English"},
                "target_language": {"code": "ko", "name": "Korean"},
                "sources": {**FILES, "tokenizer": "counter"},
                "prefilter": {"model": "server", "scorer": "metricx", "keep": 50},
                "final": {"model": "own", "scorer": "metricx"},
            }
        },
    }
)


def test_each_engine_has_an_environment_of_its_own_and_a_server_is_asked_from_a_cpu() -> None:
    names = ("server", "own", "own-on-cpu", "counter", "toy")
    assert [layout.engine_environment_of(SERVED, name) for name in names] == [
        *("openai", "vllm", "vllm-cpu", "transformers", "transformers-cpu")
    ]
    assert [layout.gpus_of(SERVED, name) for name in names] == [0, 2, 0, 1, 0]
    assert [layout.api_jobs_of(SERVED, name) for name in names] == [1, 0, 0, 0, 0]
    assert layout.environments(SERVED, "news") == ["data", "metricx", "openai", "vllm"]


def test_a_model_behind_an_api_is_known_by_its_host_and_name_or_as_the_config_says() -> None:
    assert layout.receipt_of(SERVED, "server") == "resources/models/server/server.json"
    assert layout.server_identity(SERVED, "server") == "api:api.example.org:8443/large-2"
    named = changed(SERVED, "models", "server", "openai", "identity", value="hub:owner/large@1234")
    assert layout.server_identity(named, "server") == "hub:owner/large@1234"


def test_settings_of_an_engine_are_what_its_answers_depend_on_or_what_they_do_not() -> None:
    assert layout.engine_settings(SERVED, "server") == {
        "max_tokens_parameter": "max_tokens",
        "structured_output": "response_format",
        "extra_body": {"reasoning_effort": "low"},
    }
    assert layout.engine_settings(SERVED, "own") == {"quantization": "fp8", "options": {}}
    assert layout.engine_tuning(SERVED, "own") == {"gpu_memory_utilization": 0.9, "max_num_seqs": 9}
    tuning = layout.engine_tuning(SERVED, "server")
    assert (tuning["base_url"], tuning["model"]) == ("https://API.example.org:8443/v1", "large-2")
    # The identity goes into the receipt, everything else to the engine.
    both = {**tuning, **layout.engine_settings(SERVED, "server"), "identity": None}
    assert both == SERVED["models"]["server"]["openai"]
    assert layout.engine_settings(SERVED, "toy") == layout.engine_tuning(SERVED, "toy") == {}


def test_of_a_model_that_only_counts_the_tokenizer_is_fetched_and_no_weights() -> None:
    assert layout.counting_receipt_of(SERVED, "news") == "resources/models/counter/tokenizer.json"
    by_toy = changed(SERVED, "datasets", "news", "sources", "tokenizer", value="toy")
    assert layout.counting_receipt_of(by_toy, "news") == "results/models/toy/receipt.json"
    assert layout.counting_receipt_of(PLAIN, "news") == layout.receipt_of(PLAIN, "small")


def test_the_config_of_a_release_names_what_answered_and_what_counted_and_resolves_to_itself() -> None:
    release = layout.release_config(SERVED, "news")
    assert list(release["models"]) == ["server", "own", "counter"]
    assert release["models"]["server"]["openai"] == {
        "base_url": "https://API.example.org:8443/v1",
        "model": "large-2",
        "identity": None,
        "max_tokens_parameter": "max_tokens",
        "structured_output": "response_format",
        "extra_body": {"reasoning_effort": "low"},
    }
    assert release["models"]["own"]["vllm"] == {"quantization": "fp8", "options": {}}
    assert layout.release_config(resolve_config(release), "news") == release


def test_every_environment_behind_a_release_is_there() -> None:
    assert layout.environments(PLAIN, "news") == [
        "data",
        "metricx",
        "metricx-cpu",
        "transformers",
        "transformers-cpu",
    ]
    assert all((ROOT / "envs" / f"{name}.yaml").is_file() for name in layout.environments(PLAIN, "news"))


def test_the_models_behind_a_release_each_once_in_the_order_of_their_use() -> None:
    models = {
        "small": "results/models/small/receipt.json",
        "metricx": "results/models/metricx/receipt.json",
        "large": "resources/models/large/fetch.json",
        "metricx-large": "resources/models/metricx-large/fetch.json",
    }
    assert list(layout.models_of(PLAIN, "news").items()) == list(models.items())
    judged = {**models, "judge-model": "resources/models/judge-model/fetch.json"}
    assert list(layout.models_of(JUDGED, "news").items()) == list(judged.items())
    same = config_of(judge={**JUDGE, "model": "small"})
    assert layout.models_of(same, "news") == models


def test_toy_models_and_datasets_are_those_with_a_toy_entry() -> None:
    assert layout.toy_models(PLAIN, "models") == ["small"]
    assert layout.toy_models(PLAIN, "scorers") == ["metricx"]
    assert layout.toy_datasets(PLAIN) == []
    assert layout.toy_datasets(TOY) == ["news"]


# --- what a release is made of ---


def changed(config: dict[str, Any], *keys: str, value: Any) -> dict[str, Any]:
    """The same config with one value replaced."""
    if not keys:
        return value
    return {**config, keys[0]: changed(config[keys[0]], *keys[1:], value=value)}


def test_a_release_names_its_dataset_and_the_models_that_it_used() -> None:
    release = layout.release_config(JUDGED, "news")
    assert list(release["models"]) == ["small", "large", "judge-model"]
    assert list(release["scorers"]) == ["metricx", "metricx-large"]
    # An evaluation says what a release is like, and changes none.
    expected = {key: value for key, value in JUDGED["datasets"]["news"].items() if key not in ("evaluation", "publish")}
    assert release["datasets"] == {"news": expected}
    assert release["models"]["large"]["repo"] == "google/gemma-3-27b-it"
    assert release["limit"] is None


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("models", "large", "batch_size"), 7),
        (("models", "large", "memory_mb"), 7000),
        (("models", "large", "runtime_minutes"), 7),
        (("models", "large", "tp"), 2),
        (("scorers", "metricx", "tokens_per_batch"), 77),
        (("models", "unused", "repo"), "c/d"),
        (("store",), "elsewhere"),
        (("results",), "elsewhere"),
    ],
)
def test_a_release_does_not_change_with_what_only_says_where_and_how_fast(keys: tuple[str, ...], value: Any) -> None:
    after = changed(PLAIN, *keys, value=value)
    assert after != PLAIN
    assert layout.release_config(after, "news") == layout.release_config(PLAIN, "news")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("models", "large", "repo"), "google/gemma-3-4b-it"),
        (("models", "large", "revision"), "1234"),
        (("models", "large", "dtype"), "float32"),
        (("models", "large", "max_length"), 512),
        (("scorers", "metricx", "toy"), {"steps": 5, "seed": 1}),
        (("datasets", "news", "final", "temperature"), 0.5),
        (("datasets", "news", "splits"), {"train": 1.0}),
        (("limit",), 200),
    ],
)
def test_a_release_changes_with_what_its_rows_depend_on(keys: tuple[str, ...], value: Any) -> None:
    after = changed(PLAIN, *keys, value=value)
    assert layout.release_config(after, "news") != layout.release_config(PLAIN, "news")


def test_another_dataset_changes_no_release() -> None:
    other = changed(PLAIN, "datasets", value={**PLAIN["datasets"], "more": TOY["datasets"]["news"]})
    assert layout.release_config(other, "news") == layout.release_config(PLAIN, "news")
