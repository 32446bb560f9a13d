"""A copy of the checkout in which tests build with Snakemake, as a fresh clone would."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from conftest import ROOT

CONTROL = ROOT / ".venv" / "bin"


class Checkout:
    """A copy of every file that git would commit, and calls of Snakemake in it."""

    def __init__(self, folder: Path, environments: Path):
        self.folder = folder
        self.environments = environments
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        for name in listed:
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)

    @classmethod
    def with_environments(cls, factory: pytest.TempPathFactory, name: str = "checkout") -> Checkout:
        """One that shares its environments with all of this run, and has those of the translation recipe at hand."""
        own = factory.getbasetemp()
        environments = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "environments"
        environments.mkdir(exist_ok=True)
        checkout = cls(factory.mktemp(name), environments)
        # Snakemake takes one that somebody else is making for a ruin.
        with FileLock(environments.with_suffix(".lock")):
            checkout.snakemake("--configfile", "config/tiny.yaml", "--conda-create-envs-only")
        return checkout

    @classmethod
    def with_models(cls, factory: pytest.TempPathFactory) -> Checkout:
        """One that has the toy models, too: who is first in this run trains them, all others take those."""
        checkout = cls.with_environments(factory)
        trained = checkout.environments.parent / "models"
        with FileLock(trained.with_suffix(".lock")):
            if trained.exists():
                shutil.copytree(trained, checkout.folder / "results" / "models")
            else:
                receipts = [f"results/models/{name}/receipt.json" for name in ("toy-base", "toy-metricx")]
                checkout.snakemake("--configfile", "config/tiny.yaml", "--", *receipts)
                shutil.copytree(checkout.folder / "results" / "models", trained)
        return checkout

    @classmethod
    def with_release(cls, factory: pytest.TempPathFactory) -> Checkout:
        """One that has built config/tiny.yaml: who is first in this run does so, all others take what came of it."""
        checkout = cls.with_models(factory)
        built = checkout.environments.parent / "built"
        with FileLock(built.with_suffix(".lock")):
            if built.exists():
                shutil.copytree(built, checkout.folder, dirs_exist_ok=True)
            else:
                checkout.snakemake("--configfile", "config/tiny.yaml")
                partial = built.with_suffix(".partial")
                # With what Snakemake knows of it, it is built there, too.
                for name in ("results-limit-40", "store", ".snakemake/metadata", ".snakemake/corpusmith"):
                    shutil.copytree(checkout.folder / name, partial / name)
                partial.rename(built)
        return checkout

    def command(self, *arguments: str, profile: str = "local") -> list[str]:
        """Words of a call of Snakemake with a profile of the checkout."""
        words = [CONTROL / "snakemake", "--profile", f"profiles/{profile}", "--conda-prefix", self.environments]
        return [*map(str, words), *arguments]

    def snakemake(
        self, *arguments: str, check: bool = True, profile: str = "local"
    ) -> subprocess.CompletedProcess[str]:
        """Runs Snakemake; what it printed is in stdout."""
        done = subprocess.run(
            self.command(*arguments, profile=profile),
            cwd=self.folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if check and done.returncode != 0:
            pytest.fail(f"snakemake {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done

    def plan(self, *arguments: str, profile: str = "local") -> dict[str, int]:
        """What Snakemake would run: rule to number of jobs."""
        lines = iter(self.snakemake("-n", *arguments, profile=profile).stdout.splitlines())
        jobs = {}
        for line in lines:
            if line.startswith("Job stats:"):
                for row in lines:
                    words = row.split()
                    if len(words) == 2 and words[1].isdigit():
                        jobs[words[0]] = int(words[1])
                    elif not words and jobs:
                        break
                break
        return {rule: count for rule, count in jobs.items() if rule not in ("total", "all")}

    def config(self, name: str, **changes: object) -> str:
        """Writes config/tiny.yaml with changes (dotted.path="…" as dotted__path=…) under a name of the test's."""
        config = yaml.safe_load((self.folder / "config" / "tiny.yaml").read_text())
        for path, value in changes.items():
            *folders, last = path.split("__")
            place = config
            for folder in folders:
                place = place.setdefault(folder.replace("toy_translation", "toy-translation"), {})
            place[last] = value
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return str(path)


def environment() -> dict[str, str]:
    """The variables of a program that tests start, without what pytest tells its own processes."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


def bytes_of(folder: Path) -> dict[str, str]:
    """The checksum of every file under a folder, by its path there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def need_control() -> None:
    """Skips where there is no controlling environment."""
    if not (CONTROL / "snakemake").exists():
        pytest.skip(f"no Snakemake in {CONTROL}: make setup makes it; tests run by {sys.executable}")
