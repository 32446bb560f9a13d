"""Licences: what is derived for a release, what contradicts it, and what a config is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmith import licences
from corpusmith.config import resolve_config
from corpusmith.errors import InputError
from corpusmith.licences import Part, conflicts, derive, known_licence, terms_of
from corpusmith.licensing import release_licence, tuning_licence, tuning_terms


def source(licence: str) -> Part:
    return Part("source", "news", licence, "config")


def base(licence: str) -> Part:
    return Part("base", "student", licence, "config")


def model(licence: str, role: str = "model") -> Part:
    return Part(role, "teacher", licence, "config")


@pytest.mark.parametrize(
    ("parts", "licence"),
    [
        ([source("cc0-1.0"), model("apache-2.0")], "cc0-1.0"),
        ([source("odc-by"), model("apache-2.0")], "odc-by"),
        ([source("odc-by"), source("mit")], "cc-by-4.0"),
        ([source("odc-by"), source("cc-by-sa-4.0")], "cc-by-sa-4.0"),
        ([source("odc-by"), source("cc-by-nc-4.0")], "cc-by-nc-4.0"),
        ([source("odc-by"), model("cc-by-nc-4.0")], "cc-by-nc-4.0"),
        ([source("odc-by"), model("cc-by-nc-sa-4.0", role="scorer")], "odc-by"),
        ([source("unknown"), model("apache-2.0")], "unknown"),
        ([source("mit"), model("unknown")], "unknown"),
        ([source("of-my-own"), model("mit")], "other"),
        ([source("cc0-1.0"), model("gemma")], "cc0-1.0"),
        ([source("apache-2.0"), model("other")], "other"),
        ([source("of-my-own"), source("cc-by-nc-4.0")], "cc-by-nc-4.0"),
    ],
)
def test_the_licence_is_the_most_permissive_that_all_parts_allow(parts: list[Part], licence: str) -> None:
    assert derive(parts) == licence
    assert derive(parts[::-1]) == licence
    assert conflicts(licence, parts) == []


@pytest.mark.parametrize(
    ("part", "licence", "said"),
    [
        (source("cc-by-nc-4.0"), "cc-by-4.0", "source news (cc-by-nc-4.0): is for non-commercial use"),
        (source("cc-by-nc-4.0"), "cc-by-nc-4.0", None),
        (source("cc-by-nc-4.0"), "cc-by-nc-sa-4.0", None),
        (source("cc-by-sa-4.0"), "mit", "has to have the same licence, not mit"),
        (source("cc-by-sa-3.0"), "cc-by-sa-4.0", None),
        (source("cc-by-sa-4.0"), "cc-by-sa-3.0", "has to have the same licence"),
        (source("cc-by-nd-4.0"), "cc-by-nd-4.0", "allows nothing to be made of it"),
        (model("llama3"), "mit", "model teacher (llama3): its terms forbid to train other models"),
        (model("openai-terms"), "other", "forbid to train other models"),
        (model("llama3.1"), "mit", None),
        (model("gpl-3.0"), "mit", None),
        (model("cc-by-nc-4.0"), "apache-2.0", "model teacher (cc-by-nc-4.0): is for non-commercial use"),
        # What only chooses among texts does not bind them.
        (model("cc-by-nc-sa-4.0", role="scorer"), "apache-2.0", None),
        (model("llama3", role="judge"), "apache-2.0", None),
        (source("unknown"), "mit", None),
        # What is tuned of weights is another matter than what they write.
        (base("llama3.1"), "mit", "base student (llama3.1): what is made of it has to have the same licence, not mit"),
        (base("llama3"), "llama3", None),
        # Later versions of it are other licences.
        (base("llama2"), "llama3.1", "base student (llama2): what is made of it has to have the same licence"),
        (base("gemma"), "gemma", None),
        (base("apache-2.0"), "cc-by-nc-4.0", None),
        (base("qwen-research"), "qwen-research", None),
        (base("cc-by-nc-4.0"), "apache-2.0", "base student (cc-by-nc-4.0): is for non-commercial use"),
        (source("cc-by-4.0"), "of-my-own", None),
        (source("cc-by-nc-4.0"), "other", "and other is not known here to forbid any"),
        (source("cc-by-nc-4.0"), "CC BY 4.0", "is for non-commercial use"),
        (source("cc-by-sa-4.0"), "CC-BY-SA-4.0", None),
    ],
)
def test_what_contradicts_a_licence_is_said_by_name(part: Part, licence: str, said: str | None) -> None:
    found = conflicts(licence, [source("cc0-1.0"), part])
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


known = st.sampled_from([*licences._TERMS, "unknown", "of-my-own"])


@given(st.lists(st.tuples(st.sampled_from(["source", "dataset", "model", "judge", "scorer"]), known), max_size=5))
def test_a_derived_licence_contradicts_only_what_no_licence_fits(drawn: list[tuple[str, str]]) -> None:
    parts = [Part(role, f"part-{number}", licence, "config") for number, (role, licence) in enumerate(drawn)]
    found = conflicts(derive(parts), parts)
    binding = [part for part in parts if part.role in licences.BINDING]
    terms = [part.terms for part in binding if part.terms is not None]
    texts = [part for part in binding if part.role != "model" and part.terms is not None and part.terms.share_alike]
    impossible = (
        any(not term.training or not term.derivatives for term in terms)
        or len({part.licence for part in texts}) > 1
        or (bool(texts) and any(not term.commercial for term in terms))
    )
    assert not found or impossible


def test_what_is_known_is_known_by_the_name_on_the_hub() -> None:
    assert known_licence("model", "google/gemma-3-27b-it") == "gemma"
    assert known_licence("model", "google/t5gemma-2b-2b-ul2") is None
    assert known_licence("model", "google/gemma-4-31b") is None
    assert known_licence("model", "Qwen/Qwen2.5-Coder-3B-Instruct") == "qwen-research"
    assert known_licence("model", "Qwen/Qwen2.5-Math-72B-Instruct") == "other"
    assert known_licence("model", "Qwen/Qwen2.5-Math-7B-Instruct") == "apache-2.0"
    assert known_licence("model", "Qwen/Qwen3-30B-A3B") == "apache-2.0"
    assert known_licence("model", "deepseek-ai/DeepSeek-V3") is None
    assert known_licence("dataset", "HuggingFaceFW/finewiki") is None
    assert known_licence("model", "Qwen/Qwen2.5-3B-Instruct") == "qwen-research"
    assert known_licence("model", "Qwen/Qwen2.5-7B-Instruct") == "apache-2.0"
    assert known_licence("model", "someone/else") is None
    assert known_licence("dataset", "nvidia/OpenMathReasoning") == "cc-by-4.0"
    assert known_licence("server", "api.openai.com") == "openai-terms"
    for table in (licences._MODELS, licences._DATASETS, licences._SERVERS):
        for _, licence in table:
            assert licence == "other" or terms_of(licence) is not None
    assert "derivative" in str(terms_of("gemma"))


def config(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "models": {"teacher": {"engine": "vllm", "repo": "Qwen/Qwen3-32B"}},
        "scorers": {"metric": {"metric": "metricx-24", "repo": "google/metricx-24-hybrid-xl-v2p6"}},
        "datasets": {
            "news": {
                "recipe": "translation",
                "source_language": {"code": "en", "name": "English"},
                "target_language": {"code": "ko", "name": "Korean"},
                "sources": {"hub": {"repo": "allenai/MADLAD-400", "files": ["en/*"]}, "pool": 10},
                "prefilter": {"model": "teacher", "scorer": "metric", "prompt": "p.txt", "keep": 5},
                "final": {"model": "teacher", "scorer": "metric", "prompt": "p.txt"},
            }
        },
    }
    for path, value in changes.items():
        *parts, last = path.split("__")
        target = base
        for part in parts:
            target = target.setdefault(part, {})
        target[last] = value
    return base


def refusal(given_config: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        resolve_config(given_config)
    return str(caught.value)


def test_a_config_derives_the_licence_of_what_it_names() -> None:
    found = release_licence(resolve_config(config()), "news")
    assert found["licence"] == "odc-by"
    assert (found["name"], found["conflicts"], found["override"]) == (None, [], None)
    assert found["parts"] == [
        {"role": "source", "name": "allenai/MADLAD-400", "licence": "odc-by", "from": "known", "note": None},
        {"role": "model", "name": "teacher", "licence": "apache-2.0", "from": "known", "note": None},
        {"role": "scorer", "name": "metric", "licence": "apache-2.0", "from": "known", "note": None},
    ]
    own = resolve_config(config(datasets__news__sources__licence="cc-by-sa-4.0", models__teacher__licence="mit"))
    assert release_licence(own, "news")["licence"] == "cc-by-sa-4.0"


def test_a_conflict_stops_the_build_before_it_begins_unless_a_reason_is_given() -> None:
    forbidden = config(models__teacher__repo="meta-llama/Meta-Llama-3-70B-Instruct")
    message = refusal(forbidden)
    assert "datasets.news.release.licence: odc-by contradicts model teacher (llama3)" in message
    assert "licence_override" in message
    forbidden["datasets"]["news"]["release"] = {"licence_override": "we have an agreement with the maker"}
    found = release_licence(resolve_config(forbidden), "news")
    assert found["override"] == "we have an agreement with the maker"
    assert len(found["conflicts"]) == 1
    assert "nothing is to be overridden" in refusal(config(datasets__news__release={"licence_override": "because"}))


def test_a_source_for_non_commercial_use_is_not_released_under_a_permissive_licence() -> None:
    given_config = config(datasets__news__sources__licence="cc-by-nc-4.0", datasets__news__release={"licence": "mit"})
    assert "source allenai/MADLAD-400 (cc-by-nc-4.0): is for non-commercial use, and mit allows any" in refusal(
        given_config
    )


def test_nothing_is_published_for_all_whose_licence_nobody_knows() -> None:
    public = config(
        models__teacher={"engine": "vllm", "path": "mine"},
        datasets__news__publish={"repo": "me/news", "private": False},
    )
    assert "is unknown, and the release is to be public; give it, or the licence of model teacher" in refusal(public)
    public["datasets"]["news"]["publish"]["private"] = True
    resolve_config(public)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models__teacher__publish": {"repo": "me/teacher"}}, "the model was not built here"),
        (
            {"datasets__news__publish": {"repo": "me/news", "branch": "new", "pull_request": True}},
            "a pull request is made to main",
        ),
        (
            {
                "datasets__news__publish": {"repo": "me/news"},
                "folders__mine": {"path": "data", "publish": {"repo": "Me/news"}},
            },
            "datasets.news is published there",
        ),
        ({"folders__mine": {"path": "data", "publish": {"repo": "me/mine", "private": False}}}, "has to be given"),
        ({"datasets__news__publish": {"repo": "no-owner"}}, "does not fit here"),
        ({"datasets__news__publish": {"repo": "me/a--b"}}, "does not fit here"),
        ({"datasets__news__publish": {"repo": "me/news", "branch": "refs/pr/1"}}, "does not fit here"),
        ({"hub__endpoint": "https://me:secret@hub.example.org"}, "does not fit here"),
        (
            {"models__mine": {"engine": "vllm", "path": "mine", "publish": {"repo": "me/mine", "private": False}}},
            "models.mine.licence: is unknown",
        ),
        (
            {
                "datasets__news__publish": {"repo": "me/news"},
                "folders__mine": {
                    "path": "d",
                    "licence": "mit",
                    "publish": {"repo": "me/news", "branch": "b", "private": False},
                },
            },
            "says otherwise of the same repo",
        ),
    ],
)
def test_what_cannot_be_published_is_refused_with_the_config(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(config(**changes))


@pytest.mark.parametrize(
    ("tuning", "licence"),
    [
        ({"data": {"dataset": "news"}}, "apache-2.0"),
        ({"data": {"dataset": "theirs"}}, "unknown"),
        ({"data": {"files": ["mine.jsonl"]}}, "unknown"),
        ({"data": {"files": ["mine.jsonl"]}, "licence": "mit"}, "mit"),
        ({"data": {"dataset": "news"}, "base": "llama"}, "llama3.2"),
        ({"data": {"dataset": "news"}, "adapter": "before"}, "cc-by-nc-4.0"),
    ],
)
def test_a_tuned_model_has_the_licence_of_its_base_where_its_rows_allow_it(
    tuning: dict[str, Any], licence: str
) -> None:
    before = {"method": "sft", "base": "qwen", "data": {"files": ["theirs.jsonl"]}, "licence": "cc-by-nc-4.0"}
    given = config(
        models__qwen={"engine": "vllm", "repo": "Qwen/Qwen3-8B"},
        models__llama={"engine": "vllm", "repo": "meta-llama/Llama-3.2-3B"},
        datasets__theirs=of_rows(sources={"files": ["theirs.jsonl"], "licence": "cc-by-nc-4.0"}),
        tuning={"before": before, "student": {"method": "sft", "base": "qwen", **tuning}},
    )
    assert tuning_licence(resolve_config(given), "student") == licence


def test_the_terms_of_who_wrote_the_rows_go_along_with_a_tuned_model() -> None:
    student = {"method": "sft", "base": "llama", "data": {"dataset": "news"}}
    given = config(
        models__teacher={"engine": "vllm", "repo": "google/gemma-3-27b-it"},
        models__llama={"engine": "vllm", "repo": "meta-llama/Llama-3.2-3B"},
        tuning__student=student,
    )
    terms = tuning_terms(resolve_config(given), "student")
    assert (terms["conflicts"], terms["override"]) == ([], None)
    parts = terms["parts"]
    assert [(part["role"], part["name"]) for part in parts] == [
        ("base", "llama"), ("rows", "news"), ("source", "allenai/MADLAD-400"), ("model", "teacher")
    ]  # fmt: skip
    assert parts[0]["note"]
    assert "derivative" in parts[3]["note"]


BEFORE = {"method": "sft", "base": "llama", "data": {"dataset": "news"}}
BASE_WINS = "base llama (llama3.2): what is made of it has to have the same licence, not mit"
ROWS_WIN = "dataset theirs (cc-by-nc-4.0): is for non-commercial use, and llama3.2 allows any"


@pytest.mark.parametrize(
    ("before", "student", "said"),
    [
        ({}, {"licence": "llama3.2"}, None),
        ({}, {"licence": "mit"}, f"tuning.student.licence: mit contradicts {BASE_WINS}; allowed: a licence that fits"),
        ({}, {"licence": "mit", "licence_override": "They said so."}, None),
        ({}, {"licence_override": "None."}, "tuning.student.licence_override: nothing is to be overridden"),
        ({}, {"licence": "llama3.2", "data": {"dataset": "theirs"}}, f"licence: llama3.2 contradicts {ROWS_WIN}"),
        # For oneself, and under no licence, one may tune on anything.
        ({}, {"data": {"dataset": "theirs"}}, None),
        # The reason was given for another licence.
        (
            {"licence": "mit", "licence_override": "They said so."},
            {"adapter": "before", "licence": "apache-2.0"},
            "tuning.student.licence: apache-2.0 contradicts base llama",
        ),
        # What was overridden before needs no reason again, and the card tells the first one.
        ({"licence": "mit", "licence_override": "They said so."}, {"adapter": "before"}, None),
        ({"licence": "mit", "licence_override": "They said so."}, {"adapter": "before", "licence": "mit"}, None),
        ({"licence": "mit"}, {"adapter": "before"}, f"tuning.before.licence: mit contradicts {BASE_WINS}"),
    ],
)
def test_the_licence_of_a_tuning_is_held_against_its_base_and_its_rows(
    before: dict[str, Any], student: dict[str, Any], said: str | None
) -> None:
    given = config(
        models__llama={"engine": "vllm", "repo": "meta-llama/Llama-3.2-3B"},
        datasets__theirs=of_rows(sources={"files": ["theirs.jsonl"], "licence": "cc-by-nc-4.0"}),
        tuning={"before": {**BEFORE, **before}, "student": {**BEFORE, **student}},
    )
    if said is not None:
        assert said in refusal(given)
        return
    terms = tuning_terms(resolve_config(given), "student")
    reason = student.get("licence_override") or (before and f"of before: {before['licence_override']}")
    assert terms["override"] == (reason or None)


THEIRS = {"files": ["theirs.jsonl"], "licence": "cc-by-nc-4.0"}
PUBLIC = {"repo": "me/student", "private": False}


@pytest.mark.parametrize(
    ("tunings", "said"),
    [
        # What the rows of the tuning before forbid, its own licence being unknown for it, is not forgotten behind it.
        (
            {"before": {"data": {"dataset": "theirs"}}, "student": {"adapter": "before", "licence": "apache-2.0"}},
            "tuning.student.licence: apache-2.0 contradicts dataset theirs (cc-by-nc-4.0): is for non-commercial use",
        ),
        # A release whose licence nobody knows says who wrote it all the same.
        (
            {"student": {"data": {"dataset": "unknown"}, "licence": "apache-2.0"}},
            "tuning.student.licence: apache-2.0 contradicts source theirs.jsonl (cc-by-nc-4.0): is for non-commercial",
        ),
        # Why a licence is unknown that has to be given.
        (
            {"student": {"data": {"dataset": "theirs"}, "publish": PUBLIC}},
            "tuning.student.licence: is unknown, and the model is to be public; it has to be given; apache-2.0"
            " contradicts dataset theirs (cc-by-nc-4.0)",
        ),
        # A reason that was given for the rows excuses them here, and the card of the model tells it.
        ({"student": {"data": {"dataset": "excused"}, "publish": PUBLIC}}, None),
    ],
)
def test_whatever_rows_forbid_is_held_against_the_licence_of_what_is_tuned_on_them(
    tunings: dict[str, Any], said: str | None
) -> None:
    tuned = {"method": "sft", "base": "qwen", "data": {"dataset": "news"}}
    solved = {"solve": {"model": "nobody"}, "select": {"solutions": "generated"}}
    given = config(
        models__qwen={"engine": "vllm", "repo": "Qwen/Qwen3-8B"},
        models__nobody={"engine": "vllm", "path": "solver"},
        models__llama={"engine": "vllm", "repo": "meta-llama/Meta-Llama-3-8B"},
        datasets__theirs=of_rows(sources=THEIRS),
        datasets__unknown=of_rows(sources=THEIRS, **solved),
        datasets__excused=of_rows(
            sources={"files": ["mine.jsonl"], "licence": "mit"},
            **{**solved, "solve": {"model": "llama"}},
            release={"licence": "mit", "licence_override": "They allowed it."},
        ),
        tuning={name: {**tuned, **entry} for name, entry in tunings.items()},
    )
    if said is not None:
        assert said in refusal(given)
        return
    terms = tuning_terms(resolve_config(given), "student")
    assert terms["override"] == "of excused: They allowed it."
    assert terms["conflicts"] == ["model llama (llama3): its terms forbid to train other models on what it writes"]
    assert tuning_licence(resolve_config(given), "student") == "apache-2.0"


def test_a_public_tuning_needs_a_licence() -> None:
    public = {"method": "sft", "base": "teacher", "data": {"files": ["mine.jsonl"]}}
    public["publish"] = {"repo": "me/student", "private": False}
    assert "tuning.student.licence: is unknown" in refusal(config(tuning__student=public))
    resolve_config(config(tuning__student=public | {"licence": "mit"}))


def of_rows(**more: Any) -> dict[str, Any]:
    return {"recipe": "maths", **more}


def test_what_binds_a_dataset_binds_those_that_are_made_of_it() -> None:
    prompts = {"prompt": "p.txt", "n": 2}
    made = of_rows(
        sources={"hub": {"split": "openai/gsm8k:main:train"}},
        solve={"model": "gemma", **prompts},
        select={"solutions": "generated"},
    )
    models = {"gemma": {"engine": "vllm", "repo": "google/gemma-3-27b-it"}}
    further = of_rows(sources={"dataset": ["made"]})
    found = release_licence(
        resolve_config({"models": models, "datasets": {"made": made, "further": further}}), "further"
    )
    assert found["licence"] == "mit"
    assert [(part["role"], part["name"]) for part in found["parts"]] == [
        ("dataset", "made"),
        ("source", "openai/gsm8k"),
        ("model", "gemma"),
    ]
    assert "derivative" in found["parts"][2]["note"]

    models["gemma"]["repo"] = "meta-llama/Meta-Llama-3-70B-Instruct"
    made["release"] = {"licence_override": "an agreement with the maker"}
    resolved = resolve_config({"models": models, "datasets": {"made": made, "further": further}})
    found = release_licence(resolved, "further")
    assert "forbid to train" in found["conflicts"][0]
    assert found["override"] == "of made: an agreement with the maker"


def test_a_licence_that_the_hub_does_not_know_goes_there_as_another_with_its_name() -> None:
    found = release_licence(resolve_config(config(datasets__news__release={"licence": "Team licence 2"})), "news")
    assert (found["licence"], found["name"]) == ("other", "Team licence 2")
    found = release_licence(resolve_config(config(datasets__news__release={"licence": "CC-BY-4.0"})), "news")
    assert (found["licence"], found["name"]) == ("cc-by-4.0", None)
