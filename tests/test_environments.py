"""The stand-in for conda, and the pinned environments that it makes.

The stand-in is tried with two versions of a small wheel made here, from a folder of wheels and without an index.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from conftest import ROOT

ENVS = ROOT / "envs"
CPU_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"
ENVIRONMENTS = sorted(path.stem for path in ENVS.glob("*.yaml"))
# What is of use on GPUs alone.
GPUS_ALONE = re.compile(r"nvidia-|cuda-|(triton|bitsandbytes)$")
TOOLS = os.pathsep.join([str(ROOT / ".venv" / "bin"), str(Path(sys.executable).parent)])


def find_tool(name: str) -> str:
    """A program of the controlling environment; the test is skipped where there is none."""
    path = shutil.which(name, path=TOOLS + os.pathsep + os.environ["PATH"])
    if path is None:
        pytest.skip(f"no {name} in .venv, beside this Python or on the PATH")
    return path


def write_wheel(folder: Path, version: str) -> None:
    """A wheel of a package `tiny` whose module knows its version, as PEP 427 lays it out."""
    with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as wheel:
        information = f"tiny-{version}.dist-info"
        wheel.writestr("tiny.py", f"version = '{version}'\n")
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        names = ("tiny.py", f"{information}/METADATA", f"{information}/WHEEL", f"{information}/RECORD")
        wheel.writestr(f"{information}/RECORD", "".join(f"{name},,\n" for name in names))


def write_environment(path: Path, *pip: str, others: tuple[str, ...] = ("python=3.11", "pip")) -> Path:
    path.write_text(yaml.safe_dump({"channels": ["conda-forge"], "dependencies": [*others, {"pip": list(pip)}]}))
    return path


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables under which the stand-in finds itself, uv and two wheels of `tiny`, and no index."""
    wheels = tmp_path_factory.mktemp("wheels")
    write_wheel(wheels, "1.0")
    write_wheel(wheels, "2.0")
    path = os.pathsep.join([str(ENVS / "bin"), str(Path(find_tool("uv")).parent), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "CONDA_"))}
    python = {"CORPUSMITH_PYTHON": sys.executable, "UV_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    return kept | python | {"PATH": path, "UV_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}


def call(command: str | list[str], settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    shell = isinstance(command, str)
    return subprocess.run(
        command,
        shell=shell,
        executable="/bin/bash" if shell else None,
        env=settings,
        check=False,
        capture_output=True,
        text=True,
    )


def start_creation(file: Path, prefix: Path, settings: dict[str, str]) -> subprocess.Popen[str]:
    """Calls conda as Snakemake does, output and errors together."""
    command = f'conda env create --quiet --no-default-packages --file "{file}" --prefix "{prefix}"'
    return subprocess.Popen(
        command, shell=True, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def create(file: Path, prefix: Path, settings: dict[str, str]) -> tuple[int, str]:
    process = start_creation(file, prefix, settings)
    output, _ = process.communicate()
    return process.returncode, output


def version_of_tiny(prefix: Path) -> str:
    return subprocess.check_output([prefix / "bin" / "python", "-c", "import tiny; print(tiny.version)"], text=True)


@pytest.fixture(scope="session")
def creation() -> ModuleType:
    specification = importlib.util.spec_from_file_location("create_environment", ENVS / "bin" / "create_environment.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


# What Snakemake asks conda.


def test_quick_calls_are_answered_as_snakemake_reads_them(settings: dict[str, str]) -> None:
    information = json.loads(call("conda info --json", settings).stdout)
    assert Path(information["conda_prefix"], "bin", "activate").is_file()
    assert re.fullmatch(r"(linux|osx)-\w+", information["platform"])
    versions = re.findall(r"\d+\.\d+\.\d+", call("conda --version", settings).stdout)
    assert len(versions) == 1
    assert Version(versions[0]) >= Version("24.7.1")
    priority = json.loads(call("conda config --get channel_priority --json", settings).stdout)
    assert priority["get"]["channel_priority"] == "strict"
    assert call("conda clean -y --tarballs", settings).returncode == 0
    assert call("type conda", settings).stdout.strip() == f"conda is {ENVS}/bin/conda"


@pytest.mark.parametrize("command", ["conda env export --prefix x", "conda create --file x.pin.txt", "conda"])
def test_other_calls_say_that_conda_is_needed(command: str, settings: dict[str, str]) -> None:
    answer = call(command, settings)
    assert answer.returncode != 0
    assert command in answer.stderr
    assert "install conda" in answer.stderr


def test_activation_can_change_its_mind(tmp_path: Path, settings: dict[str, str]) -> None:
    for version in ("1.0", "2.0"):
        file = write_environment(tmp_path / f"{version}.yaml", f"tiny=={version}")
        status, output = create(file, tmp_path / f"prefix {version}", settings)
        assert status == 0, output
    first, second = tmp_path / "prefix 1.0", tmp_path / "prefix 2.0"
    show = 'python -c "import tiny; print(tiny.version)"; echo "$CONDA_PREFIX"; echo "$VIRTUAL_ENV"; echo "$PATH"'
    answer = call(
        f"set -euo pipefail; source {ENVS}/bin/activate '{first}'; {show}; "
        f"cd '{tmp_path}'; source {ENVS}/bin/activate 'prefix 2.0'; {show}",
        settings,
    )
    assert answer.returncode == 0, answer.stderr
    inherited = settings["PATH"]
    assert answer.stdout.splitlines() == [
        *("1.0", str(first), str(first), f"{first}/bin:{inherited}"),
        *("2.0", str(second), str(second), f"{second}/bin:{inherited}"),
    ]


def test_activation_of_nothing_fails(tmp_path: Path, settings: dict[str, str]) -> None:
    answer = call(f"set -euo pipefail; source {ENVS}/bin/activate '{tmp_path}/none'; echo went on", settings)
    assert answer.returncode != 0
    assert answer.stdout == ""
    assert f"{tmp_path}/none" in answer.stderr


def test_each_rule_of_a_workflow_sees_its_own_version(tmp_path: Path, settings: dict[str, str]) -> None:
    snakemake = find_tool("snakemake")
    for version in ("1.0", "2.0"):
        write_environment(tmp_path / f"{version}.yaml", f"tiny=={version}")
    (tmp_path / "show.py").write_text("import tiny\nopen(snakemake.output[0], 'w').write(tiny.version + '\\n')\n")
    (tmp_path / "Snakefile").write_text(
        'rule all:\n    input: "shell.txt", "script.txt"\n'
        'rule by_shell:\n    output: "shell.txt"\n    conda: "1.0.yaml"\n'
        "    shell: \"python -c 'import tiny; print(tiny.version)' > {output}\"\n"
        'rule by_script:\n    output: "script.txt"\n    conda: "2.0.yaml"\n    script: "show.py"\n'
    )
    command = [snakemake, "--directory", str(tmp_path), "--snakefile", str(tmp_path / "Snakefile")]
    answer = call([*command, "--sdm", "conda", "--cores", "2"], settings)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (tmp_path / "shell.txt").read_text() == "1.0\n"
    assert (tmp_path / "script.txt").read_text() == "2.0\n"


# How an environment comes to be.


def test_packages_of_conda_alone_are_refused(tmp_path: Path, settings: dict[str, str]) -> None:
    file = write_environment(tmp_path / "e.yaml", "tiny==1.0", others=("python=3.11", "pip", "samtools=1.20"))
    status, output = create(file, tmp_path / "prefix", settings)
    assert status == 1
    assert "samtools=1.20" in output
    assert "install conda" in output
    assert str(file) in output
    assert not (tmp_path / "prefix").exists()


@pytest.mark.parametrize("text", ["dependencies: [", "channels: [conda-forge]", "just words", ""])
def test_a_broken_file_is_one_line(text: str, tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "e.yaml").write_text(text)
    status, output = create(tmp_path / "e.yaml", tmp_path / "prefix", settings)
    assert status == 1
    assert output.startswith(f"error: {tmp_path / 'e.yaml'} ")
    assert output.count("\n") == 1


def test_a_version_that_nobody_offers_fails_with_the_reason_and_leaves_nothing(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    file = write_environment(tmp_path / "e.yaml", "tiny==3.0")
    status, output = create(file, tmp_path / "prefix", settings)
    assert status == 1
    assert "tiny==3.0" in output
    assert [path.name for path in tmp_path.iterdir()] == ["e.yaml"]


def test_two_processes_may_make_the_same(tmp_path: Path, settings: dict[str, str]) -> None:
    file = write_environment(tmp_path / "e.yaml", "tiny==2.0")
    processes = [start_creation(file, tmp_path / "prefix", settings) for _ in range(3)]
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert version_of_tiny(tmp_path / "prefix") == "2.0\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.yaml", "prefix"]


def test_a_prefix_is_kept_for_the_same_and_defended_against_another(tmp_path: Path, settings: dict[str, str]) -> None:
    prefix = tmp_path / "prefix"
    file = write_environment(tmp_path / "e.yaml", "tiny==1.0")
    assert create(file, prefix, settings)[0] == 0
    made = prefix.stat().st_ino
    assert create(file, prefix, settings)[0] == 0
    assert prefix.stat().st_ino == made
    status, output = create(write_environment(file, "tiny==2.0"), prefix, settings)
    assert status == 1
    assert "delete it" in output
    assert version_of_tiny(prefix) == "1.0\n"


def test_the_running_python_serves_where_the_asked_one_is_missing(tmp_path: Path, settings: dict[str, str]) -> None:
    file = write_environment(tmp_path / "e.yaml", "tiny==1.0", others=("python=3.99", "pip"))
    status, output = create(file, tmp_path / "prefix", settings)
    assert status == 0, output
    assert "no Python 3.99 on this machine" in output
    assert version_of_tiny(tmp_path / "prefix") == "1.0\n"


def test_a_lock_file_makes_an_environment(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "tests.lock").write_text("# a comment\n\ntiny==2.0 ; python_version >= '3.11'\n")
    status, output = create(tmp_path / "tests.lock", tmp_path / "prefix", settings)
    assert status == 0, output
    assert version_of_tiny(tmp_path / "prefix") == "2.0\n"


@pytest.mark.parametrize(
    ("wheel", "dropped"),
    [
        (f"torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_{platform.machine()}.whl", True),
        ("torch-2.13.0-py3-none-any.whl", True),
        (f"torch-2.14.0+cpu-cp311-cp311-manylinux_2_28_{platform.machine()}.whl", False),
        (f"torch-2.13.0+cpu-cp312-cp312-manylinux_2_28_{platform.machine()}.whl", False),
        ("torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_pdp11.whl", False),
        ("tiny-1.0-py3-none-any.whl", False),
    ],
)
def test_the_cpu_index_goes_where_a_wheel_of_torch_is_offered(
    wheel: str, dropped: bool, tmp_path: Path, creation: ModuleType
) -> None:
    (tmp_path / wheel).touch()
    requirements = [CPU_INDEX, "numpy==2.4.6 ; python_full_version < '3.12'", "torch==2.13.0"]
    for find_links in (str(tmp_path), f"/nowhere,{tmp_path}", f"https://example.org/wheels {tmp_path.as_uri()}"):
        left = creation.without_needless_index(requirements, find_links, "3.11")
        assert left == (requirements[1:] if dropped else requirements)
    assert creation.without_needless_index(requirements, "", "3.11") == requirements


def test_uv_is_told_what_pip_is_told(creation: ModuleType) -> None:
    pips = {"PIP_INDEX_URL": "https://one.example/simple", "PIP_FIND_LINKS": "/a /b", "HOME": "/home"}
    expected = {"UV_DEFAULT_INDEX": "https://one.example/simple", "UV_FIND_LINKS": "/a,/b"}
    assert creation.settings_for_uv(pips) == pips | expected
    own = pips | {"UV_FIND_LINKS": "/c", "UV_DEFAULT_INDEX": "https://two.example/simple"}
    assert creation.settings_for_uv(own) == own


# The pinned environments.


def read_lines(name: str) -> list[str]:
    """The requirements and option lines of envs/NAME.yaml or envs/NAME.lock."""
    path = ENVS / f"{name}.yaml"
    if not path.is_file():
        return [line for line in (ENVS / f"{name}.lock").read_text().splitlines() if not line.startswith("#")]
    content = yaml.safe_load(path.read_text())
    assert list(content) == ["channels", "dependencies"]
    assert content["channels"] == ["conda-forge", "nodefaults"]
    python, pip, packages = content["dependencies"]
    assert (python, pip, list(packages)) == ("python=3.11", "pip", ["pip"])
    return packages["pip"]


def read_pins(name: str) -> dict[str, set[str]]:
    """The versions of each package; several where they depend on the platform or Python."""
    pins: dict[str, set[str]] = {}
    for line in read_lines(name):
        if line.startswith("--"):
            continue
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        assert "*" not in specifier.version, line
        assert requirement.url is None, line
        pins.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    return pins


def test_every_environment_of_the_design_is_there() -> None:
    on_both = {"comet", "metricx", "transformers", "vllm"}
    assert {"data", "openai"} | on_both | {f"{name}-cpu" for name in on_both} <= set(ENVIRONMENTS)
    # Beside such a file Snakemake ignores the pip packages of the YAML without a word.
    assert not list(ENVS.glob("*.pin.txt"))


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "control", "tests"])
def test_pins_name_exact_versions_and_no_place(name: str) -> None:
    pins = read_pins(name)
    assert len(pins) >= 10
    options = [line for line in read_lines(name) if line.startswith("-")]
    assert options == ([CPU_INDEX] if name.endswith("-cpu") or name == "tests" else [])
    # A local version such as 2.13.0+cpu is on one index alone; no version says so.
    assert not [version for versions in pins.values() for version in versions if "+" in version]


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "control", "tests"])
def test_cuda_is_only_where_it_belongs(name: str) -> None:
    cuda = {package for package in read_pins(name) if GPUS_ALONE.match(package)}
    if name in ("transformers", "train", "benchmark", "benchmark-vllm", "embeddings", "metricx", "vllm", "comet"):
        assert {"triton", "nvidia-cublas"} <= cuda
    else:
        # What vLLM compiles its grammars with asks for triton everywhere.
        assert cuda == ({"triton"} if name == "vllm-cpu" else set())


@pytest.mark.parametrize("name", [*ENVIRONMENTS, "control", "tests"])
def test_pins_hold_what_is_asked_for(name: str) -> None:
    own = name if (ENVS / f"{name}.in").is_file() else name.removesuffix("-cpu")
    sources = ["data", "transformers", "openai", "metricx", "tests"] if name == "tests" else [own]
    pins = read_pins(name)
    for source in sources:
        for line in (ENVS / f"{source}.in").read_text().splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            requirement = Requirement(line)
            if name.endswith("-cpu") and GPUS_ALONE.match(requirement.name):
                continue
            versions = pins.get(canonicalize_name(requirement.name), set())
            assert versions, f"{line} of {source}.in is not in {name}: run `make lock`"
            assert all(requirement.specifier.contains(version) for version in versions), line


def test_the_tests_run_the_versions_of_the_rules() -> None:
    tested = read_pins("tests")
    for name in sorted(set(ENVIRONMENTS) - {"vllm", "vllm-cpu", "benchmark-vllm", "comet", "comet-cpu"}):
        for package, versions in read_pins(name).items():
            if not GPUS_ALONE.match(package):
                assert versions == tested[package], f"{package} of {name}"


def test_the_cpu_environment_is_the_cuda_one_without_cuda() -> None:
    for name in ("transformers", "train", "benchmark", "embeddings", "metricx", "comet"):
        on_cpu, on_cuda = read_pins(f"{name}-cpu"), read_pins(name)
        assert on_cpu == {package: on_cuda[package] for package in on_cpu}
        assert all(GPUS_ALONE.match(package) for package in on_cuda.keys() - on_cpu.keys())


def test_vllm_is_one_version_on_gpus_and_cpus() -> None:
    on_cuda, on_cpu = read_pins("vllm"), read_pins("vllm-cpu")
    assert on_cuda["vllm"] == on_cpu["vllm-cpu"]
    assert on_cuda["torch"] == on_cpu["torch"]
    assert on_cuda["transformers"] == on_cpu["transformers"]
    assert read_pins("benchmark-vllm")["vllm"] == on_cuda["vllm"]
