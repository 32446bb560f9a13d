"""What jobs of models and scorers ask a cluster for, and what is refused because no node could ever run it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from checkout import CONTROL, need_control
from conftest import ROOT
from corpusmith.cluster import Partition, parse_sinfo
from corpusmith.config import resolve_config
from corpusmith.errors import InputError
from corpusmith.models import write_receipt
from corpusmith.placement import PLACED, Placement, default_resources
from test_cluster import EXAMPLE, controlled
from test_config import small

SLURM = SimpleNamespace(partition_config=None)
SINFO = """
cpu*|(null)|1:00:00|250000|64
gpu|gpu:a100:4(S:0-1)|1-00:00:00|515000|64
big|gpu:h100:8(S:0-1)|12:00:00|1030000|128
"""
OF_THE_PROFILE = {
    "slurm_partition": "gpu", "slurm_extra": "--nice", "gpu_model": "a100", "constraint": "ib", "qos": "low"
}  # fmt: skip
NOTHING = dict.fromkeys(OF_THE_PROFILE)


@pytest.fixture(autouse=True, scope="module")
def _no_file_of_this_machine_s() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SNAKEMAKE_SLURM_PARTITIONS", raising=False)
        yield


def config_of(kind: str = "models", **changes: Any) -> dict[str, Any]:
    """A config in which `it` is a model of vLLM's or a MetricX, with every default."""
    config = small()
    base = {"engine": "vllm"} if kind == "models" else {"metric": "metricx-24"}
    config[kind]["it"] = {**base, "repo": "owner/name", **changes}
    return resolve_config(config)


def placement(config: dict[str, Any], sinfo: str = "", defaults: Mapping[str, str] | None = None) -> Placement:
    return Placement(config, SLURM, defaults, lambda: parse_sinfo(sinfo))


def resources(sinfo: str = "", gpus: int = 1, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    """What a model's job asks for."""
    return placement(config_of(**changes), sinfo).resources("it", gpus, attempt)


def refusal(sinfo: str = "", **changes: Any) -> list[str]:
    """The lines with which a model is refused, whichever way it is asked about."""
    with pytest.raises(InputError) as refused:
        (found := placement(config_of(**changes), sinfo)).resources("it", 1, 1)
    with pytest.raises(InputError, match=re.escape(str(refused.value))):
        found.resources("it", 1, 1)
    return str(refused.value).splitlines()


# --- what a job asks for ---


def test_a_job_on_gpus_asks_for_them_on_one_node_with_cpus_for_each() -> None:
    assert set(PLACED) == set(asked := resources(gpus=2, tp=2))
    assert asked == {"gpu": 2, "cpus_per_task": 8, "mem_mb": 8000, "runtime": 240, "nodes": 1, **NOTHING}
    assert resources(gpus=2, tp=2, cpus=3)["cpus_per_task"] == 3


def test_a_job_without_a_gpu_asks_for_one_cpu_and_keeps_its_own_settings() -> None:
    own = {"partition": "cpu", "qos": "low", "gpu_model": "a100"}
    asked = resources(SINFO, gpus=0, device="cpu", memory_mb=20000, runtime_minutes=30, resources=own)
    placed = NOTHING | {"slurm_partition": "cpu", "qos": "low"}
    assert asked == {"gpu": 0, "cpus_per_task": 1, "mem_mb": 20000, "runtime": 30, "nodes": 1, **placed}
    assert resources(gpus=0, device="cpu", cpus=16)["cpus_per_task"] == 16


def test_a_scorer_s_job_is_placed_as_a_model_s_is() -> None:
    config = config_of("scorers", tp=2, resources={"partition": "gpu", "gpu_model": "a100"})
    asked = placement(config, SINFO).resources("it", 2, 1)
    placed = NOTHING | {"slurm_partition": "gpu", "gpu_model": "a100"}
    assert asked == {"gpu": 2, "cpus_per_task": 8, "mem_mb": 16000, "runtime": 240, "nodes": 1, **placed}
    with pytest.raises(InputError, match=r"^config: scorers\.it\.tp: 2 "):
        placement(config_of("scorers", tp=2), SINFO).resources("it", 1, 1)


def test_where_everything_was_found_a_small_job_goes_where_jobs_without_a_model_go() -> None:
    small_job = {"gpu": 0, "cpus_per_task": 1, "mem_mb": 4000, "runtime": 600, "nodes": 1, **NOTHING}
    own = {"partition": "big", "gpu_model": "h100", "constraint": "nvlink", "qos": "high", "extra": "--exclusive"}
    config = config_of(tp=8, memory_mb=900000, runtime_minutes=600, resources=own)
    assert placement(config).resources("it", 0, 1) == small_job
    # The cluster's default partition ends it after an hour.
    assert placement(config, SINFO).resources("it", 0, 1) == small_job | {"runtime": 60}
    by_profile = placement(config, SINFO, defaults=OF_THE_PROFILE).resources("it", 0, 1)
    assert by_profile == small_job | OF_THE_PROFILE | {"gpu_model": None}
    assert resources(gpus=0, memory_mb=1500)["mem_mb"] == 1500


def test_each_attempt_gets_more_memory_up_to_three_times_and_never_more_than_a_node_has() -> None:
    for partition, most in ((None, 600_000), ("gpu", 515_000), ("big", 600_000), ("gpu,big", 600_000)):
        found = placement(config_of(memory_mb=200_000, resources={"partition": partition}), SINFO * bool(partition))
        memories = [found.resources("it", 1, attempt)["mem_mb"] for attempt in range(1, 6)]
        assert memories == [200_000, 400_000, most, most, most]


def test_a_job_never_asks_for_more_time_than_its_partition_gives() -> None:
    for partition, minutes in (("gpu", 1440), ("big", 720), ("gpu,big", 1440)):
        found = placement(config_of(runtime_minutes=2000, resources={"partition": partition}), SINFO)
        assert [found.resources("it", 1, attempt)["runtime"] for attempt in (1, 2, 3)] == [minutes] * 3
    assert resources("gpu*|gpu:4|infinite|515000|64", runtime_minutes=9999)["runtime"] == 9999


def test_what_a_model_says_replaces_what_the_profile_says_of_all_jobs() -> None:
    keys = dict(zip(NOTHING, ("partition", "extra", "gpu_model", "constraint", "qos"), strict=True))
    own = dict(zip(NOTHING, ("big", "--exclusive", "h100", "nvlink", "high"), strict=True))
    for names in [*([name] for name in NOTHING), [*NOTHING]]:
        config = config_of(resources={keys[name]: own[name] for name in names})
        asked = placement(config, defaults=OF_THE_PROFILE).resources("it", 1, 1)
        assert {name: asked[name] for name in NOTHING} == OF_THE_PROFILE | {name: own[name] for name in names}


def test_a_reservation_is_a_further_flag() -> None:
    for own, extra in (
        ({"reservation": "spring"}, "--reservation=spring"),
        ({"reservation": "spring", "extra": "--mail-type=FAIL --nice"}, "--reservation=spring --mail-type=FAIL --nice"),
        ({"extra": "--nice"}, "--nice"),
        ({}, None),
    ):
        assert resources(resources=own)["slurm_extra"] == extra


# --- what can never run ---


def test_more_gpus_than_a_node_has_are_refused() -> None:
    by_name = refusal(SINFO, tp=8, resources={"partition": "gpu"})
    for lines in (by_name, refusal("any*|gpu:4|1:00|9000|64", tp=8), refusal(tp=8, resources={"gpus_per_node": 4})):
        assert len(lines) == 1
        assert re.fullmatch(r"config: models\.it\.tp: 8 .* 4", lines[0])
    assert resources(gpus=4, tp=4, resources={"gpus_per_node": 4})["gpu"] == 4
    assert resources(SINFO, gpus=8, tp=8, resources={"partition": "big"})["gpu"] == 8


@pytest.mark.parametrize(
    ("changes", "key", "numbers"),
    [
        ({"memory_mb": 600_000}, "memory_mb", ["600000", "515000"]),
        ({"cpus": 65}, "cpus", ["65", "64"]),
        ({"resources": {"partition": "gpu", "gpu_model": "h100"}}, "resources.gpu_model", ["h100", "a100"]),
        ({"resources": {"partition": "gqu"}}, "resources.partition", ["gqu", "big, cpu, gpu"]),
        ({"resources": {"partition": "gpu,gqu"}}, "resources.partition", ["gqu", "big, cpu, gpu"]),
        ({"parameters_b": 70.6, "resources": {"partition": "gpu", "gpu_memory_gb": 80}}, "tp", ["131.5", "72.0"]),
    ],
)
def test_what_no_node_has_is_refused_with_the_key_and_what_there_is(changes: Any, key: str, numbers: list[str]) -> None:
    (line,) = refusal(SINFO, **{"resources": {"partition": "gpu"}, **changes})
    assert keys_of([line]) == [key]
    assert all(number in line for number in numbers)


def keys_of(lines: list[str]) -> list[str]:
    assert all(line.startswith("config: models.it.") for line in lines)
    return [line.removeprefix("config: models.it.").split(":")[0] for line in lines]


def test_each_thing_that_is_wrong_is_told_on_a_line_of_its_own() -> None:
    of_both = refusal(SINFO, tp=8, cpus=99, memory_mb=600_000, resources={"partition": "cpu,gpu"})
    assert keys_of(of_both) == ["tp", "memory_mb", "cpus"] * 2
    own = {"partition": "cpu,gqu,gpu", "gpu_memory_gb": 10, "gpus_per_node": 2}
    # A partition of which nothing is known may have what it takes, so the others are no reason.
    assert keys_of(refusal(SINFO, tp=8, parameters_b=700, resources=own)) == ["tp", "tp", "resources.partition"]


def test_of_several_partitions_one_that_fits_is_enough_and_its_limits_count() -> None:
    own = {"partition": "cpu,gpu,big"}
    asked = resources(SINFO, gpus=8, attempt=3, tp=8, memory_mb=400_000, runtime_minutes=2000, resources=own)
    assert (asked["slurm_partition"], asked["mem_mb"], asked["runtime"]) == ("cpu,gpu,big", 1_030_000, 720)
    assert len(refusal(SINFO, tp=9, resources=own)) == 3


def test_without_a_partition_the_cluster_s_default_decides_and_before_it_the_profile_s() -> None:
    (line,) = refusal(SINFO)
    assert "partition cpu" in line
    found = placement(config_of(runtime_minutes=2000), SINFO, defaults={"slurm_partition": "gpu"})
    assert found.resources("it", 1, 1)["runtime"] == 1440
    found = placement(config_of(tp=8), SINFO, defaults={"slurm_partition": "cpu,gpu"})
    with pytest.raises(InputError, match="partition gpu has 4"):
        found.resources("it", 1, 1)
    # Without a default of anybody's nobody knows where a job goes.
    assert resources(SINFO.replace("*", ""), tp=64, gpus=64)["gpu"] == 64


def test_where_nothing_is_known_nothing_is_refused_nor_cut() -> None:
    own = {"partition": "somewhere,else", "gpu_model": "z9000"}
    asked = resources(gpus=64, attempt=3, tp=64, memory_mb=10**7, runtime_minutes=10**6, resources=own)
    assert (asked["gpu"], asked["mem_mb"], asked["runtime"]) == (64, 3 * 10**7, 10**6)


def test_a_partition_that_the_profile_names_and_the_cluster_does_not_have_is_refused() -> None:
    found = placement(config_of(), SINFO, defaults={"slurm_partition": "elsewhere"})
    with pytest.raises(InputError, match=r"profile.*elsewhere; allowed: big, cpu, gpu"):
        found.resources("it", 1, 1)


def test_only_slurm_is_asked_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([parse_sinfo(SINFO)])
    found = Placement(config_of(runtime_minutes=2000, resources={"partition": "gpu"}), SLURM, {}, lambda: next(answers))
    assert [found.resources("it", 1, attempt)["runtime"] for attempt in (1, 2, 3)] == [1440] * 3
    monkeypatch.setenv("SNAKEMAKE_SLURM_PARTITIONS", "gone.yaml")
    for settings in (None, SimpleNamespace(nodes=3)):
        assert Placement(config_of(tp=64), settings, {}, lambda: next(answers)).resources("it", 64, 1)["gpu"] == 64


def test_what_was_fetched_counts_more_than_what_the_config_says_of_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = {"gpu_memory_gb": 24}
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 32, "num_key_value_heads": 8, "head_dim": 128}')
    path = Path("resources/models/it/fetch.json")
    path.parent.mkdir(parents=True)
    receipt = {"name": "it", "origin": "local", "identity": "sha256:0", "files": [], "dtype": "bfloat16"}
    write_receipt(path, receipt | {"parameters": 8_030_261_248, "folder": str(tmp_path)})
    # 14.96 GiB of weights and 131,072 bytes a token in 21.6 GiB.
    assert resources(parameters_b=70, max_length=54415, resources=own)["gpu"] == 1
    assert "54,416" in refusal(parameters_b=1, max_length=54416, resources=own)[0]
    path.write_text("{")
    assert resources(parameters_b=1, resources=own)["gpu"] == 1
    assert len(refusal(parameters_b=70, resources=own)) == 1


MOST = {"gpus": 8, "minutes": 5000, "memory_mb": 10**6, "cpus": 64}
LIMITS = {name: st.none() | st.integers(1, most) for name, most in MOST.items()}
PARTITIONS = st.lists(
    st.builds(Partition, name=st.sampled_from("abcd"), **LIMITS), min_size=1, unique_by=lambda place: place.name
)
ENTRY = config_of()


@given(PARTITIONS, st.integers(1, 8), st.integers(1, 64), st.integers(100, 10**6), st.integers(1, 5000))
def test_every_attempt_fits_into_one_partition_unless_none_has_what_the_first_needs(
    places: list[Partition], tp: int, cpus: int, memory: int, minutes: int
) -> None:
    def fits(place: Partition, asked: Mapping[str, Any]) -> bool:
        limits = {"gpu": place.gpus, "cpus_per_task": place.cpus, "mem_mb": place.memory_mb, "runtime": place.minutes}
        return all(limit is None or asked[key] <= limit for key, limit in limits.items())

    changes = {"tp": tp, "cpus": cpus, "memory_mb": memory, "runtime_minutes": minutes}
    named = {"partition": ",".join(place.name for place in places)}
    entry = ENTRY["models"]["it"]
    config = {**ENTRY, "models": {"it": {**entry, **changes, "resources": {**entry["resources"], **named}}}}
    found = Placement(config, SLURM, asked=lambda: places)
    first = {"gpu": tp, "cpus_per_task": cpus, "mem_mb": memory, "runtime": 1}
    if not any(fits(place, first) for place in places):
        with pytest.raises(InputError):
            found.resources("it", 1, 1)
        return
    for attempt in (1, 2, 3, 4):
        asked = found.resources("it", tp, attempt)
        assert any(fits(place, asked) for place in places)
        assert memory <= asked["mem_mb"] <= memory * attempt
        assert 1 <= asked["runtime"] <= minutes


# --- with the executor's and Snakemake's own ---

PLACE = """
import logging, os
from pathlib import Path
from types import SimpleNamespace
from corpusmith.cluster import parse_sinfo
from corpusmith.errors import InputError
from corpusmith.placement import Placement
from snakemake_executor_plugin_slurm import ExecutorSettings
from snakemake_executor_plugin_slurm.partitions import get_best_partition, read_partition_file

def placed(place, partitions, name, gpus):
    try:
        asked = [place.resources(name, count, attempt) for count in (gpus, 0) for attempt in (1, 2, 3)]
    except InputError as error:
        return str(error)
    jobs = [{key: value for key, value in job.items() if value is not None} for job in asked]
    jobs = [SimpleNamespace(name=name, threads=1, resources=job) for job in jobs]
    return [(job.resources, get_best_partition(partitions, job, logging.getLogger("executor"))) for job in jobs]

found, partitions = [], read_partition_file(Path(given["file"]))
for path, variable in ((Path(given["file"]), "/gone.yaml"), (None, given["file"])):
    os.environ["SNAKEMAKE_SLURM_PARTITIONS"] = variable
    place = Placement(given["config"], ExecutorSettings(partition_config=path), {}, lambda: parse_sinfo(given["sinfo"]))
    models = given["config"]["models"].items()
    found.append({name: placed(place, partitions, name, entry["tp"]) for name, entry in models})
"""


def test_the_executor_finds_a_partition_of_its_file_for_every_attempt() -> None:
    models = {
        "small": {},
        "four": {"tp": 4, "memory_mb": 400_000, "runtime_minutes": 4320},
        "eight": {"tp": 8, "memory_mb": 900_000, "runtime_minutes": 4320},
        "a100": {"tp": 2, "resources": {"gpu_model": "a100"}},
        "sixteen": {"tp": 16},
        "v100": {"resources": {"gpu_model": "v100"}},
    }
    config = small()
    for name, entry in models.items():
        config["models"][name] = {"engine": "vllm", "repo": "a/b", **entry}
    config = resolve_config(config)
    config["models"] = {name: config["models"][name] for name in models}
    # Where a file tells, the cluster's default partition, which has no GPUs, is nothing.
    sinfo = "main*|(null)|1:00:00|250000|64"
    of_setting, of_variable = controlled(PLACE, {"file": str(EXAMPLE), "config": config, "sinfo": sinfo})
    assert of_setting == of_variable
    for name in ("sixteen", "v100"):
        lines = of_setting.pop(name).splitlines()
        assert len(lines) >= 2
        assert all(line.startswith(f"config: models.{name}.") for line in lines)
    chosen = {name: [partition for _, partition in jobs] for name, jobs in of_setting.items()}
    assert all(None not in partitions for partitions in chosen.values()), chosen
    assert set(chosen["a100"][:3]) == {"gpu-long"}
    assert set(chosen["eight"][:3]) == {"gpu"}
    # Jobs without a GPU stay out of the queues for GPUs.
    assert all(set(partitions[3:]) == {"cpu"} for partitions in chosen.values()), chosen
    asked = {name: [(job["mem_mb"], job["runtime"]) for job, _ in jobs[:3]] for name, jobs in of_setting.items()}
    # The first fits where there is most time, the others only where there is most memory.
    assert asked["four"] == [(400_000, 4320), (800_000, 720), (1_000_000, 720)]


CONSTANT = [
    "gpu", "gpu-long", "'gpu'", "gpu,cpu", "gpu.long", "1gpu", "'all'", "7", "$PARTITION", "", "a100|h100",
    "'a100&nvlink'", "[rack1|rack2]", "'--nice=100'", "--nice=100", "'--mail-type=FAIL --nice'",
]  # fmt: skip
FORMULAS = [
    "'short' if attempt == 1 else 'long'", "f'gpu{attempt}'", "wildcards.partition", "'a' if threads > 1 else 'b'",
    "'big' if input.size_mb > 10 else 'small'",
]  # fmt: skip
PARSE = """
from types import SimpleNamespace
from corpusmith.placement import default_resources
from snakemake.resources import Resources

def job(number):
    return {"wildcards": SimpleNamespace(partition=f"p{number}"), "input": SimpleNamespace(size_mb=number**5),
            "attempt": number, "threads": number, "rulename": "any", "async_run": None}

found = []
for name, text in given:
    defaults = Resources.parse([f"{name}={text}", "runtime=30", "mem=2000"], allow_expressions=True, defaults="full")
    found.append([default_resources(defaults), [defaults[name].evaluate(**job(number)).value for number in (1, 2)]])
"""


def test_a_default_that_is_the_same_for_all_jobs_is_what_snakemake_makes_of_it() -> None:
    texts = [(name, text) for name in NOTHING for text in (*CONSTANT, *FORMULAS)]
    found = controlled(PARSE, texts, PARTITION="night")
    assert default_resources(None) == {}
    for (name, text), (ours, (first, second)) in zip(texts, found, strict=True):
        assert (first == second) == (text in CONSTANT)
        assert ours == ({name: str(first)} if first == second else {}), text


WORKFLOW = """
import json
from corpusmith.placement import default_resources

def write(wildcards, resources):
    found = [default_resources(workflow.resource_settings.default_resources), dict(resources.items())]
    open("found.json", "w").write(json.dumps(found))

rule one:
    params: write
    shell: "true"
"""


def test_a_profile_s_defaults_are_those_of_snakemake_s_own_jobs(tmp_path: Path) -> None:
    need_control()
    constant = {"slurm_partition": "gpu-long", "slurm_extra": "'--nice=100'", "constraint": "'a100&nvlink'"}
    defaults = {**constant, "runtime": 30, "mem_mb": "2000 * attempt", "qos": "'low' if attempt == 1 else 'high'"}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump({"cores": 1, "default-resources": defaults}))
    (tmp_path / "Snakefile").write_text(WORKFLOW)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "SNAKEMAKE"))}
    done = subprocess.run(
        [CONTROL / "snakemake", "-n", "--profile", "."], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**environment, "PYTHONPATH": str(ROOT / "scripts")}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ours, of_a_job = json.loads((tmp_path / "found.json").read_text())
    assert ours == {name: value.strip("'") for name, value in constant.items()}
    assert ours.items() <= of_a_job.items()
