"""The card of a release: its YAML as the Hub and `datasets` read it, and a text that nothing in the rows can break."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from checkout import Checkout, need_control
from corpusmith import card_text, release
from corpusmith.card import read_about, read_licence, size_category
from corpusmith.errors import InputError
from corpusmith.files import write_json
from corpusmith.release import Build, write_release
from corpusmith.tables import ROWS
from small_build import Made, expected_rows, front_matter, make
from small_maths import NAME as MATHS
from small_maths import maths_build, maths_config, solution

MARKDOWN = MarkdownIt("commonmark").enable("table")


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make(tmp_path_factory.mktemp("build"))
    assert made.write() == 9
    return made


@pytest.fixture(scope="session")
def maths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(maths_build(tmp_path_factory.mktemp("maths")))


def write(build: Build) -> Path:
    """The folder of the release of a build."""
    folder = build.folder / "release"
    write_release(build, folder, build.folder / "stats.json")
    return folder


def body_of(build: Build) -> str:
    return front_matter(write(build) / "README.md")[1]


# --- the YAML ---


def test_the_cards_yaml_names_the_files_of_every_config_and_split(released: Made) -> None:
    front, _ = front_matter(released.release / "README.md")
    assert (front["language"], front["license"]) == (["en", "ko"], "cc-by-4.0")
    assert (front["task_categories"], front["size_categories"]) == (["translation"], ["n<1K"])
    assert front["pretty_name"] == "Pears: sold – 배"
    assert [(config["config_name"], config.get("default")) for config in front["configs"]] == [
        ("default", True),
        ("top_k", None),
    ]
    files = [path.relative_to(released.release).as_posix() for path in released.release.rglob("*") if path.is_file()]
    for config, folder in zip(front["configs"], ("data", "top_k"), strict=True):
        assert [entry["split"] for entry in config["data_files"]] == ["train", "test"]
        for entry in config["data_files"]:
            matched = [file for file in files if fnmatch.fnmatchcase(file, entry["path"])]
            assert matched == [f"{folder}/{entry['split']}-00000-of-00001.parquet"]
            # Nor those of another split whose name begins alike.
            assert not fnmatch.fnmatchcase(f"{folder}/{entry['split']}_hard-00000-of-00001.parquet", entry["path"])


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        (999, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M"), (10**7, "10M<n<100M"),
        (10**8, "100M<n<1B"), (10**9, "1B<n<10B"),
    ],
)  # fmt: skip
def test_the_card_names_the_hubs_size_category(rows: int, category: str) -> None:
    assert size_category(rows) == category


LOAD = """
import json, sys
from datasets import Features, load_dataset, load_dataset_builder
folder, wanted = sys.argv[1], json.loads(sys.argv[2])
found = {}
for name, features in wanted.items():
    loaded = load_dataset(folder, name, revision=None)
    builder = load_dataset_builder(folder, name)
    known = Features._from_yaml_list(features)
    found[name] = {
        "same": all(rows.features == known == builder.info.features for rows in loaded.values()),
        "rows": {split: len(rows) for split, rows in loaded.items()},
        "promised": {split: info.num_examples for split, info in builder.info.splits.items()},
        "bytes": {split: rows.data.nbytes for split, rows in loaded.items()},
    }
found["none"] = {split: rows.column_names for split, rows in load_dataset(folder).items()}
print(json.dumps(found))
"""


def load(folder: Path, home: Path, features: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(folder), json.dumps(features)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("recipe", "counts"),
    [
        ("translation", {"default": [5, 4], "top_k": [5, 4]}),
        # Four samples of each problem, of those that are released.
        ("maths", {"default": [4, 1], "samples": [16, 4]}),
    ],
)
def test_datasets_finds_the_features_and_counts_that_the_card_promises(
    released: Made, maths: Path, tmp_path: Path, recipe: str, counts: dict[str, list[int]]
) -> None:
    folder = released.release if recipe == "translation" else maths
    front, _ = front_matter(folder / "README.md")
    infos = {info["config_name"]: info for info in front["dataset_info"]}
    assert list(infos) == [config["config_name"] for config in front["configs"]] == list(counts)
    done = load(folder, tmp_path, {name: info["features"] for name, info in infos.items()})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found.pop("none")) == ["train", "test"]
    for name, info in infos.items():
        assert found[name]["same"]
        assert list(found[name]["rows"].values()) == counts[name]
        assert {split["name"]: split["num_examples"] for split in info["splits"]} == found[name]["rows"]
        assert found[name]["promised"] == found[name]["rows"]
        # Arrow may keep a bitmap of nulls and an end of offsets more for each part that it holds.
        for split in info["splits"]:
            assert split["num_bytes"] == pytest.approx(found[name]["bytes"][split["name"]], rel=0.1)
        files = folder.rglob("*.parquet")
        config_folder = "data" if name == "default" else name
        sizes = [path.stat().st_size for path in files if path.parent.name == config_folder]
        assert info["download_size"] == sum(sizes)
        assert info["dataset_size"] == sum(split["num_bytes"] for split in info["splits"])


def test_huggingface_hub_reads_every_field_of_the_card_without_a_network(released: Made, maths: Path) -> None:
    for folder in (released.release, maths):
        path = folder / "README.md"
        card = huggingface_hub.DatasetCard.load(path)
        assert isinstance(card.data, huggingface_hub.DatasetCardData)
        front, body = front_matter(path)
        assert card.data.to_dict() == front
        assert card.text.strip() == body.strip()
        for key in ("language", "license", "pretty_name", "task_categories", "size_categories", "tags"):
            assert getattr(card.data, "tags" if key == "tags" else key) == front[key]
        # What it would push is what is there.
        assert yaml.safe_load(str(card).split("---\n")[1]) == front


def test_a_licence_without_an_id_is_named_and_linked(tmp_path: Path) -> None:
    given = {"licence": "other", "name": "our-licence", "link": "https://example.org/l", "parts": []}
    folder = write(replace(maths_build(tmp_path), licence=given))
    data = huggingface_hub.DatasetCard.load(folder / "README.md").data
    assert (data.license, data.license_name, data.license_link) == ("other", "our-licence", "https://example.org/l")
    assert "under `our-licence` ([text](<https://example.org/l>))." in (folder / "README.md").read_text("utf-8")


# --- what it tells ---


def test_the_cards_text_tells_what_was_done_and_what_was_lost(released: Made) -> None:
    _, body = front_matter(released.release / "README.md")
    assert "# Pears: sold – 배\n\nSmall, {{ but }} complete.\n" in body
    assert "5 rows in `train`, 4 rows in `test`" in body
    assert "answered 3 times by `teacher`; `metric` chose the best answer, rules and a judge removed" in body
    assert "| final/select | items | 16 | 14 | 87.5% | answer_cut_off 1, no_answer 1 |\n" in body
    assert "| filter.rules.max_score | `5.0` |\n" in body
    assert "| filter.judge.accept | `good` |\n" in body
    assert "- `teacher`: someone/teacher at ab12, identity `id-teacher`\n" in body
    assert all(f"- `{name}`: " in body for name in expected_rows()[0])
    assert "![How score is distributed over released and rejected rows](assets/scores.png)\n" in body
    # Of 0.15 to 0.23, and of 0.1, 0.11, 6.0, 0.13 and 0.14.
    assert "Mean over the released rows: 0.19, over the rejected ones that have it: 1.296.\n" in body
    assert "written by `teacher` (someone/teacher)" in body
    assert "arXiv:2601.09012" in body


def test_the_way_to_load_it_names_every_split_of_every_config(maths: Path, tmp_path: Path) -> None:
    assert 'train = load_dataset("PATH/TO/release", split="train")\n' in (maths / "README.md").read_text("utf-8")
    body = body_of(replace(maths_build(tmp_path), repo="someone/sums"))
    (code,) = re.findall("```python\n(.*?)```", body, re.DOTALL)
    assert code.splitlines() == [
        "from datasets import load_dataset",
        "",
        'train = load_dataset("someone/sums", split="train")',
        'test = load_dataset("someone/sums", split="test")',
        'train_samples = load_dataset("someone/sums", "samples", split="train")',
        'test_samples = load_dataset("someone/sums", "samples", split="test")',
    ]


@pytest.mark.parametrize(
    "text", ["Ours.\n\n---\n\n# A heading\n\n{{ nothing }} {% raw %} <b>x</b>  \r\nend", "one line", "trailing\n\n\n"]
)
def test_the_users_own_text_is_kept_word_for_word(tmp_path: Path, text: str) -> None:
    (tmp_path / "about.md").write_bytes(text.encode())
    folder = write(replace(maths_build(tmp_path), about=read_about(tmp_path / "about.md")))
    assert text.encode() in (folder / "README.md").read_bytes()
    assert huggingface_hub.DatasetCard.load(folder / "README.md").data.pretty_name == MATHS


def test_sources_are_named_with_the_commit_that_was_fetched_and_without_paths_of_a_disk(tmp_path: Path) -> None:
    body = body_of(maths_build(tmp_path / "files"))
    assert "- local files `sums.jsonl`\n" in body
    assert "somebody" not in body
    hub = {"hub": {"split": "nvidia/Sums:default:cot", "revision": "main"}}
    build = maths_build(tmp_path / "hub", maths_config(sources=hub))
    write_json(build.folder / "sources" / "fetch.json", {"repo": "nvidia/Sums", "commit": "c0ffee", "files": []})
    parts = [{"role": "source", "name": "nvidia/Sums", "licence": "cc-by-4.0", "from": "known", "note": None}]
    body = body_of(replace(build, licence={"licence": "cc-by-4.0", "parts": parts}))
    assert "[nvidia/Sums](https://huggingface.co/datasets/nvidia/Sums), split `nvidia/Sums:default:cot`" in body
    assert ", revision `c0ffee`, licence `cc-by-4.0`\n" in body


def test_licences_conflicts_and_the_reason_to_publish_all_the_same_are_told(tmp_path: Path) -> None:
    parts = [
        {"role": "source", "name": "some|one/x", "licence": "cc-by-nc-4.0", "from": "known", "note": "no <b>sale</b>"},
        {"role": "model", "name": "teacher", "licence": "gemma", "from": "config", "note": None},
        {"role": "scorer", "name": "metric", "licence": "unknown", "from": "unknown", "note": None},
    ]
    given = {"licence": "cc-by-4.0", "parts": parts, "conflicts": ["x forbids sale"], "override": "we asked *them*"}
    build = replace(maths_build(tmp_path), licence=read_licence(json.dumps(given)))
    body = body_of(build)
    assert "| source | `some\\|one/x` | `cc-by-nc-4.0` | known of it | no \\<b\\>sale\\</b\\> |\n" in body
    assert "| scorer | `metric` | `unknown` | nobody has said |  |\n" in body
    assert "identity `id-t`, licence `gemma`\n" in body
    assert "These stand against it:\n\n- x forbids sale\n" in body
    assert "for the reason that its makers give: we asked \\*them\\*\n" in body


def test_a_licence_that_is_none_is_said_to_be_unknown(tmp_path: Path) -> None:
    folder = write(maths_build(tmp_path, maths_config(release={})))
    front, body = front_matter(folder / "README.md")
    assert front["license"] == "unknown"
    assert "No licence is known: ask before you use it." in body


@pytest.mark.parametrize("text", ["[]", "{", "{}", '{"licence": "mit", "parts": [{"role": "model"}]}'])
def test_a_licence_that_is_no_such_object_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="--licence"):
        read_licence(text)


def test_limitations_follow_from_what_was_done(tmp_path: Path) -> None:
    plain = body_of(maths_build(tmp_path / "plain"))
    assert "Duplicates were not looked for." in plain
    assert "were not held against benchmarks" in plain
    assert "no judge was asked" in plain
    assert "written by `teacher` (someone/teacher). A right one has the right final answer" in plain
    assert "may be wrong" in plain
    filters = {"deduplicate": {}, "decontaminate": {"benchmarks": ["b.jsonl"]}}
    config = maths_config(judge={"model": "judge"}, check={"majority": False}, filter=filters)
    full = body_of(maths_build(tmp_path / "full", config))
    assert "one was kept; what says the same in other words was not found" in full
    assert "were kept at most" not in full
    assert "held against the benchmarks that `resolved_config.yaml` names" in full
    assert "a model, `judge`, decided, and may have erred" in full
    assert "may be wrong" not in full
    longest = {"rows": 1200, "by": {"column": "generated_solution", "order": "longest"}}
    apart = maths_config(filter={"neighbours": {"model": "teacher"}, "best": longest})
    embedded = body_of(maths_build(tmp_path / "embedded", apart))
    assert "- Of rows whose text means nearly the same, by the embeddings of `teacher`, one was kept." in embedded
    assert "uplicates were not looked for" not in embedded
    kept = (
        "- Of what passed all else, 1,200 rows were kept at most, those with the longest `generated_solution`: models"
    )
    assert kept in embedded
    drawn = body_of(maths_build(tmp_path / "drawn", maths_config(filter={"best": {"rows": 12}})))
    assert "- Of what passed all else, 12 rows were kept at most, drawn by their ids." in drawn
    given = body_of(maths_build(tmp_path / "given", maths_config(solve=None, select={"solutions": "given"})))
    assert "`pass_rate` and the other labels are the source's" in given
    for body in (plain, full, given):
        assert "No human has checked the rows." in body


@pytest.mark.parametrize(
    ("commit", "told"),
    [
        ({"id": "c0ffee", "modified": False}, None),
        ({"id": "c0ffee", "modified": True}, "**The code was changed after the commit below**"),
        ({"id": None, "modified": None}, "**Which version of the code made it is not known**"),
    ],
)
def test_the_card_warns_where_the_commit_does_not_say_what_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit: dict[str, Any], told: str | None
) -> None:
    monkeypatch.setattr(release, "commit_of", lambda _: commit)
    body = body_of(maths_build(tmp_path))
    assert [warning in body for warning in ("**The code was changed", "**Which version")] == [
        bool(told and told.startswith(warning)) for warning in ("**The code was changed", "**Which version")
    ]
    assert ("git checkout c0ffee\n" in body) == (commit["id"] is not None)


def test_the_cards_own_command_plans_the_release(released: Made, tmp_path: Path) -> None:
    need_control()
    checkout = Checkout(tmp_path / "clone", tmp_path / "environments")
    # What the config of the build names.
    for name in ("p.txt", "a.jsonl.gz"):
        (checkout.folder / name).write_bytes(b"")
    config = (released.release / "resolved_config.yaml").read_bytes()
    (checkout.folder / "resolved_config.yaml").write_bytes(config)
    _, body = front_matter(released.release / "README.md")
    (command,) = re.findall("^snakemake -n (.*)$", body, re.MULTILINE)
    planned = checkout.plan(*command.split())
    assert planned["release_dataset"] == 1
    assert planned["filter_translations"] == 1


# --- nothing in a row breaks it ---

NASTY = "```\n# broken\n\n<script>x</script> | a | b |\n\n````\n~~~\n[x](y) {{ 7 * 7 }} {% endblock %}\r`````"


def headings(body: str) -> list[str]:
    tokens = MARKDOWN.parse(body)
    return [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]


def test_texts_in_rows_add_no_heading_no_table_and_no_html(tmp_path: Path) -> None:
    nasty = {"problem": NASTY, "answer": "`|<b>`", "generated_solution": "x" * 501, "problem_type": "# a `` |"}
    rows = [solution(number, 0.5, **nasty) for number in range(3)]
    calm = [solution(number, 0.5, generated_solution="y" * 501) for number in range(3)]
    bodies = [
        body_of(maths_build(tmp_path / name, rows={"train": found, "rejected": []}))
        for name, found in (("nasty", rows), ("calm", calm))
    ]
    assert headings(bodies[0]) == headings(bodies[1])
    kinds = [[token.type for token in MARKDOWN.parse(body)] for body in bodies]
    assert kinds[0].count("table_open") == kinds[1].count("table_open")
    assert "html_block" not in kinds[0]
    inline = [child for token in MARKDOWN.parse(bodies[0]) for child in token.children or []]
    assert "html_inline" not in {child.type for child in inline}
    fences = [token.content for token in MARKDOWN.parse(bodies[0]) if token.type == "fence"]
    assert fences.count(NASTY.replace("\r", "\n") + "\n") == 3
    # Cut at 500 characters.
    assert fences.count("x" * 500 + "…\n") == 3


LINES = st.lists(st.sampled_from(["```", "`````", "~~~", "\n", "\r", " ", "<b>", "# ", "a배"]), max_size=20).map(
    "".join
)


@given(LINES)
def test_a_fenced_text_is_one_block_with_exactly_that_text(text: str) -> None:
    (token,) = MARKDOWN.parse(card_text.fenced(text))
    assert token.type == "fence"
    assert token.content == re.sub("\r\n?", "\n", text) + "\n"


@given(st.text(st.sampled_from("`|<>#*\\ \na배&_"), min_size=1, max_size=30).filter(str.strip))
def test_code_in_a_cell_is_one_code_with_exactly_that_text(text: str) -> None:
    tokens = MARKDOWN.parse(f"| a | b |\n| --- | --- |\n| {card_text.cell(text)} | c |\n")
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4
    (code,) = cells[2].children or []
    assert (code.type, code.content) == ("code_inline", " ".join(text.split()))


@given(st.text(st.sampled_from("`~|<>#*\\ a배&_[]()!$-"), min_size=1, max_size=30).filter(str.strip))
def test_an_escaped_text_reads_as_it_is(text: str) -> None:
    (_, found, _) = MARKDOWN.parse(f"a {card_text.plain(text)}")
    assert "".join(child.content for child in found.children or []) == "a " + " ".join(text.split())
    assert {child.type for child in found.children or []} <= {"text", "text_special"}


def test_every_column_of_every_recipe_can_be_shown() -> None:
    assert set(ROWS) == set(release.RELEASES)
