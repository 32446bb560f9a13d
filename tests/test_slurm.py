"""Builds on a real SLURM cluster of one node with pretend GPUs, through profiles/slurm."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import yaml

import slurm_cluster
from checkout import Checkout, bytes_of, environment, need_control
from corpusmith.identity import sample_seed

pytestmark = pytest.mark.slow

DATASET = "results-limit-24/toy-translation"
TARGET = f"{DATASET}/release/manifest.json"
SHARDS = [f"{number:04}-of-0004" for number in range(4)]
# A machine of two cores runs few at once.
QUICK = ("--jobs", "8")
# A job that has given so many gives no more while the file HELD is there.
ANSWERS_UNHELD = 16
PAUSED = f"""\
        import json, os, time
        time.sleep(float(os.environ.get("PAUSE", "0")))
        self.given = getattr(self, "given", 0)
        while self.given >= {ANSWERS_UNHELD} and os.path.exists(os.environ.get("HELD", "")):
            time.sleep(0.1)
        self.given += len(questions)
        if "ASKED" in os.environ:
            with open(os.environ["ASKED"], "a") as asked:
                asked.writelines(json.dumps(one.seed) + "\\n" for one in questions)
"""
PRETENDED = """\
    import os, time
    from pathlib import Path

    if "CUDA_VISIBLE_DEVICES" in os.environ:
        note = Path(os.environ["DEVICES"]) / os.environ["SLURM_JOB_ID"]
        devices, start = os.environ["CUDA_VISIBLE_DEVICES"], time.time()
        time.sleep(6)
        note.write_text(f"{devices} {flags.tp} {start} {time.time()}")
        flags.device, flags.tp = "cpu", 1
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    reason = slurm_cluster.why_not()
    if reason is not None:
        pytest.skip(reason)
    with slurm_cluster.cluster(), pytest.MonkeyPatch.context() as variables:
        variables.setenv("PYTHONPATH", str(Path(__file__).with_name("watching_closely")))
        yield


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Checkout:
    """A small dataset of hardly trained models, built without a cluster."""
    need_control()
    checkout = Checkout.with_environments(tmp_path_factory)
    rules = dict.fromkeys(("empty", "script", "language", "length_ratio", "repetition", "line_count"), False)
    rules |= dict.fromkeys(("preamble", "copied_source", "markup", "brackets", "numbers", "max_score"), False)
    config = yaml.safe_load((checkout.folder / "config" / "tiny.yaml").read_text())
    config["limit"] = 24
    config["models"]["toy-base"] |= {"toy": {"steps": 60}, "batch_size": 4, "memory_mb": 1000}
    config["scorers"]["toy-metricx"] |= {"toy": {"steps": 20}, "memory_mb": 1000}
    dataset = config["datasets"]["toy-translation"]
    dataset["final"] |= {"shards": 4}
    dataset |= {"filter": {"rules": rules}, "evaluation": None}
    (checkout.folder / "small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    # What is put to the model is written down there, and is slow where a test wants it so.
    patch(checkout, "corpusmith/engines/transformers_engine.py", "    def _answer(self, ", "list[Answer]:\n", PAUSED)
    checkout.snakemake("--configfile", "small.yaml", "--", TARGET)
    return checkout


def patch(checkout: Checkout, program: str, head: str, tail: str, addition: str) -> None:
    """Adds lines to a function of a program, behind its first lines from `head` to `tail`."""
    path = checkout.folder / "scripts" / program
    text = path.read_text()
    place = text.index(tail, text.index(head)) + len(tail)
    path.write_text(text[:place] + addition + text[place:])


@pytest.fixture(scope="module")
def clustered(local: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Another checkout, with the same models and nothing else."""
    checkout = Checkout(tmp_path_factory.mktemp("clustered"), local.environments)
    for name in ("small.yaml", "scripts/corpusmith/engines/transformers_engine.py"):
        shutil.copy(local.folder / name, checkout.folder / name)
    shutil.copytree(local.folder / "results" / "models", checkout.folder / "results" / "models")
    return checkout


def on_cluster(checkout: Checkout, *arguments: str, config: str = "small.yaml", check: bool = True):
    return checkout.snakemake(*QUICK, "--configfile", config, *arguments, profile="slurm", check=check)


class Running:
    """A build on the cluster that goes on beside the test."""

    def __init__(self, checkout: Checkout, *arguments: str, log: Path, **variables: str) -> None:
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                checkout.command(*QUICK, "--configfile", "small.yaml", *arguments, profile="slurm"),
                cwd=checkout.folder, env=environment() | variables, stdout=file, stderr=file,
            )  # fmt: skip

    def wait_for(self, found: Callable[[], object], seconds: float = 900) -> None:
        """Waits until something is true, while the build goes on."""
        patience = time.monotonic() + seconds
        while not found():
            assert self._process.poll() is None, self.said()[-5000:]
            assert time.monotonic() < patience, self.said()[-5000:]
            time.sleep(0.1)

    def end(self, seconds: float = 1500) -> int:
        return self._process.wait(seconds)

    def said(self) -> str:
        return self._log.read_text()


def jobs_of(said: str) -> dict[str, str]:
    """Numbers of SLURM jobs in Snakemake's log, with what they are."""
    return {
        number: what
        for number, what in re.findall(r"submitted with SLURM jobid (\d+) \(log: \S+?/slurm_logs/([^/]+)/", said)
    }


def queue(form: str, *flags: str, option: str = "--format") -> list[list[str]]:
    """What squeue says of all jobs, those that have ended among them."""
    done = subprocess.run(
        ["squeue", "--states=all", "--noheader", f"{option}={form}", *flags], capture_output=True, text=True, check=True
    )
    return [[word.strip() for word in line.split("|")] for line in done.stdout.splitlines()]


def asked_seeds(path: Path) -> Counter[int]:
    return Counter(map(json.loads, path.read_text().splitlines()))


def test_a_build_on_the_cluster_is_the_local_one_whatever_is_edited_meanwhile(
    local: Checkout, clustered: Checkout, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    asked.touch()
    build = Running(clustered, "--", TARGET, log=tmp_path / "build.log", ASKED=str(asked))
    build.wait_for(lambda: jobs_of(build.said()))
    # From now on, the checkout is a ruin.
    edited = {
        "scripts/generate.py": "raise SystemExit('edited')\n",
        "scripts/corpusmith/tables.py": "syntax error\n",
        "rules/score.smk": "rule score:\n    nonsense\n",
        "Snakefile": "nonsense\n",
        "config/prompts/toy-translate.txt": "Say nothing. {{ text }}\n",
        "envs/data.yaml": "name: nothing\n",
        "small.yaml": "datasets: [\n",
    }
    before = {name: (clustered.folder / name).read_bytes() for name in edited}
    for name, text in edited.items():
        (clustered.folder / name).write_text(text)
    try:
        assert build.end() == 0, build.said()[-5000:]
    finally:
        for name, content in before.items():
            (clustered.folder / name).write_bytes(content)
    assert bytes_of(clustered.folder / DATASET / "release") == bytes_of(local.folder / DATASET / "release")

    # Snakemake's log, the queue and our logs agree on what ran.
    submitted = jobs_of(build.said())
    listed = {number: (state, what) for number, state, what in queue("%i|%T|%k") if number in submitted}
    assert set(listed) == set(submitted)
    assert {state for state, _ in listed.values()} == {"COMPLETED"}
    rules = Counter(what.removeprefix("rule_").removeprefix("group_") for what in submitted.values())
    assert rules["generate"] == rules["score"] == 5
    # Requests of all shards of a step are one job, and so is the way from the best answers to checked rows.
    assert rules["toy-translation-final-requests_request_translations"] == 1
    assert rules["toy-translation-selection_filter_translations_select_best"] == 1
    logs = clustered.folder / "results-limit-24" / "logs"
    assert len(list((logs / "generate").rglob("*.log"))) == len(list((logs / "score").rglob("*.log"))) == 5
    answers = [
        (row["key"], row["sample"])
        for path in (clustered.folder / DATASET).glob("*/completions/*.parquet")
        for row in parquet.read_table(path).to_pylist()
    ]
    assert asked_seeds(asked) == Counter({sample_seed(*answer) for answer in answers})
    # What was put back is what it was: nothing is to be built anew. An edited prompt is another question.
    assert "Nothing to be done" in on_cluster(clustered, "--", TARGET).stdout
    prompt = clustered.folder / "config" / "prompts" / "toy-translate.txt"
    prompt.write_text(edited["config/prompts/toy-translate.txt"])
    try:
        planned = clustered.plan("--configfile", "small.yaml", "--", TARGET)
    finally:
        prompt.write_bytes(before["config/prompts/toy-translate.txt"])
    assert planned["generate"] == 5


def need_results(local: Checkout, clustered: Checkout) -> None:
    """Has the results, without a cluster where no test has made them on it."""
    if not (clustered.folder / DATASET / "checked" / "kept.parquet").exists():
        shutil.copytree(local.folder / DATASET, clustered.folder / DATASET, dirs_exist_ok=True)


def back_to_requests(local: Checkout, clustered: Checkout) -> None:
    """Leaves what was made up to the final requests, and no answers."""
    need_results(local, clustered)
    for name in ("completions", "scores", "selected", "dropped"):
        shutil.rmtree(clustered.folder / DATASET / "final" / name, ignore_errors=True)
    shutil.rmtree(clustered.folder / DATASET / "release", ignore_errors=True)
    shutil.rmtree(clustered.folder / "store", ignore_errors=True)


@pytest.mark.thorough
def test_a_shard_that_needs_its_wall_time_many_times_over_is_done_and_asks_nothing_twice(
    local: Checkout, clustered: Checkout, tmp_path: Path
) -> None:
    back_to_requests(local, clustered)
    config = yaml.safe_load((clustered.folder / "small.yaml").read_text())
    # Of a minute, the last 35 seconds are for draining, and some are gone before the first question.
    config["models"]["toy-base"] |= {"runtime_minutes": 1, "drain_seconds": 35}
    (clustered.folder / "short.yaml").write_text(yaml.safe_dump(config))
    asked = tmp_path / "asked"
    asked.touch()
    table = f"{DATASET}/final/completions/{SHARDS[0]}.parquet"
    rows = parquet.read_table(local.folder / table).num_rows
    # Three times what is left of a minute, at the least, in batches of four.
    pause = 3 * 25 / (rows / 4)
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("PAUSE", f"{pause:.2f}")
        variables.setenv("ASKED", str(asked))
        done = on_cluster(clustered, "--", table, config="short.yaml")
    *stopped, last = sorted(map(int, jobs_of(done.stdout)))
    assert len(stopped) >= 2
    late = 0
    for log in (clustered.folder / ".snakemake" / "slurm_logs" / "rule_generate").rglob("*.log"):
        if int(log.stem) in stopped:
            said = log.read_text()
            assert "stopped: the time of the job ends at" in said
            # On a busy machine, what was under way when a job drained may come too late, and the job says so.
            late += sum(map(int, re.findall(r"(\d+) of what was under way did not come in time", said)))
            stopped.remove(int(log.stem))
    assert stopped == []
    # Each attempt asks for more memory, up to three times as much.
    memory = {int(number): asked for number, asked in queue("JobID:|,MinMemory:", option="--Format")}
    assert [memory[number] for number in range(last - 2, last + 1)] in (
        ["1000M", "2000M", "3000M"],
        ["2000M", "3000M", "3000M"],
        ["3000M"] * 3,
    )
    assert (clustered.folder / table).read_bytes() == (local.folder / table).read_bytes()
    assert len(asked_seeds(asked)) == rows
    assert asked_seeds(asked).total() <= rows + late


def test_jobs_that_are_cancelled_requeued_or_lose_their_node_lose_nothing(
    local: Checkout, clustered: Checkout, tmp_path: Path
) -> None:
    back_to_requests(local, clustered)
    asked, held = tmp_path / "asked", tmp_path / "held"
    asked.touch()
    held.touch()
    build = Running(clustered, "--", TARGET, log=tmp_path / "build.log", ASKED=str(asked), HELD=str(held))

    def generating() -> list[str]:
        return [number for number, what in jobs_of(build.said()).items() if what == "rule_generate"]

    # All four have answers, and none is done before all of that has happened to them: the shortest has more.
    build.wait_for(lambda: len(generating()) == 4 and asked_seeds(asked).total() >= 4 * ANSWERS_UNHELD)
    first, second, *_ = generating()
    subprocess.run(["scancel", first], check=True)
    subprocess.run(["scontrol", "requeue", second], check=True)
    # The two others are still at work when the node goes away.
    build.wait_for(lambda: ["PENDING"] in queue("%T", f"--jobs={second}"))
    slurm_cluster.stop_node()
    time.sleep(3)
    slurm_cluster.start_node()
    held.unlink()
    if build.end() != 0:
        on_cluster(clustered, "--", TARGET)
    assert bytes_of(clustered.folder / DATASET / "release") == bytes_of(local.folder / DATASET / "release")
    # What was under way in the four jobs is all that can have been asked again: a batch of each.
    twice = sum(count - 1 for count in asked_seeds(asked).values())
    assert twice <= 4 * 4


@pytest.mark.thorough
def test_two_jobs_with_two_gpus_each_share_the_node_and_a_third_waits(
    local: Checkout, clustered: Checkout, tmp_path: Path
) -> None:
    checkout = Checkout(tmp_path / "checkout", local.environments)
    shutil.copytree(local.folder / "results" / "models", checkout.folder / "results" / "models")
    shutil.copytree(local.folder / DATASET / "final" / "requests", checkout.folder / DATASET / "final" / "requests")
    for kind in ("transformers", "metricx"):
        shutil.copy(checkout.folder / "envs" / f"{kind}-cpu.yaml", checkout.folder / "envs" / f"{kind}.yaml")
    patch(checkout, "generate.py", "def main()", "flags = parser.parse_args()\n", PRETENDED)
    config = yaml.safe_load((local.folder / "small.yaml").read_text())
    config["models"]["toy-base"] |= {"device": "cuda", "tp": 2, "cpus": 2}
    (checkout.folder / "cuda.yaml").write_text(yaml.safe_dump(config))
    devices = tmp_path / "devices"
    devices.mkdir()
    tables = [f"{DATASET}/final/completions/{shard}.parquet" for shard in SHARDS[:3]]
    requests = [f"{DATASET}/final/requests/{shard}.parquet" for shard in SHARDS]
    flags = ("--rerun-triggers", "mtime", "--consider-ancient", "generate=requests", "look_up_answers=requests")

    def build() -> dict[str, str]:
        """GPUs of each job that generated."""
        with pytest.MonkeyPatch.context() as variables:
            variables.setenv("DEVICES", str(devices))
            done = on_cluster(checkout, *flags, "--", *tables, config="cuda.yaml")
        submitted = jobs_of(done.stdout)
        listed = queue("JobID:|,tres-per-job:", option="--Format")
        return {number: gpus for number, gpus in listed if submitted.get(number) == "rule_generate"}

    assert all((checkout.folder / path).exists() for path in requests)
    found = build()
    assert len(found) == 3
    assert set(found.values()) == {"gres:gpu:2"}
    notes = {number: (devices / number).read_text().split() for number in found}
    spans = [(float(start), float(end), names.split(",")) for names, _, start, end in notes.values()]
    assert {tp for _, tp, _, _ in notes.values()} == {"2"}
    assert all(len(set(names)) == 2 and set(names) <= set("0123") for _, _, names in spans)
    for start, _, names in spans:
        beside = [other for begun, ended, other in spans if begun < start < ended]
        assert len(beside) <= 1
        assert all(not set(names) & set(other) for other in beside)
    starts, ends = sorted(start for start, _, _ in spans), sorted(end for _, end, _ in spans)
    assert starts[1] < ends[0] <= starts[2]

    # Now all of it is in the store: no job asks for a GPU, and no model is loaded.
    shutil.rmtree(checkout.folder / DATASET / "final" / "completions")
    again = build()
    assert len(again) == 3
    assert set(again.values()) == {"N/A"}
    assert sorted(path.name for path in devices.iterdir()) == sorted(found)


def test_what_can_never_run_is_told_before_anything_is_submitted(local: Checkout) -> None:
    config = yaml.safe_load((local.folder / "small.yaml").read_text())
    config["models"]["toy-base"] |= {"device": "cuda", "tp": 8}
    (local.folder / "large.yaml").write_text(yaml.safe_dump(config))
    done = on_cluster(local, "-n", "--forceall", "--", TARGET, config="large.yaml", check=False)
    assert done.returncode != 0
    assert "config: models.toy-base.tp: 8 GPUs on one node, and a node of partition main has 4" in done.stdout


def test_a_cluster_without_accounts_makes_no_build_wait_for_ever(local: Checkout) -> None:
    start = time.monotonic()
    shutil.rmtree(local.folder / DATASET / "release")
    done = on_cluster(local, "--slurm-status-command", "sacct", "--", TARGET, check=False)
    assert done.returncode != 0
    assert "slurm-status-command: squeue" in done.stdout
    assert not jobs_of(done.stdout)
    assert time.monotonic() - start < 300


def test_the_end_of_the_log_says_what_failed_and_why(local: Checkout, clustered: Checkout) -> None:
    need_results(local, clustered)
    shutil.rmtree(clustered.folder / DATASET / "release", ignore_errors=True)
    rows = clustered.folder / DATASET / "checked" / "kept.parquet"
    shutil.copy(rows, rows.with_suffix(".kept"))
    rows.write_bytes(b"not a table")
    try:
        done = on_cluster(clustered, "--rerun-triggers", "mtime", "--", TARGET, check=False)
    finally:
        rows.with_suffix(".kept").replace(rows)
    assert done.returncode != 0
    *_, report = done.stdout.partition("jobs failed:")
    assert "write_split" in report
    assert f"{DATASET}/checked/kept.parquet" in report
    assert "results-limit-24/logs/write_split/toy-translation/train.log" in report
    # Another attempt would have found the same.
    assert "attempts" not in report
    assert len(jobs_of(done.stdout)) == 1


def test_the_queue_is_empty_in_the_end(cluster: None) -> None:
    def active() -> list[str]:
        return [number for number, state in queue("%i|%T") if state in ("RUNNING", "PENDING", "COMPLETING")]

    # What SLURM tidies up behind a job that has ended takes it a moment.
    patience = time.monotonic() + 60
    while active() and time.monotonic() < patience:
        time.sleep(0.1)
    assert active() == []
