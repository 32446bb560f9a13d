"""Licences and terms: what they ask of what is made of a text, or by a model, and what of it a release may say.

Not legal advice: what is here was read in the licences themselves, by the names that the Hub has for them, to find
contradictions that nobody meant. Imported by the Snakefile: nothing heavy here.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

UNKNOWN, OTHER = "unknown", "other"
# Texts that get into a release, and what wrote them, bind it. What only chose among them does not.
BINDING = ("source", "dataset", "model")
# The weights that a tuning begins with.
BASE = "base"


@dataclass(frozen=True)
class Terms:
    """What a licence asks.

    training: whether what a model writes may train other models; weights_alike: whether weights that are made of its
    own keep the licence.
    """

    attribution: bool = True
    commercial: bool = True
    share_alike: bool = False
    derivatives: bool = True
    training: bool = True
    weights_alike: bool = False
    note: str | None = None


_PUBLIC = Terms(attribution=False)
_GEMMA = (
    "Gemma's terms: a model that is trained on its output to perform like it is a derivative, to which the terms and"
    " the list of prohibited uses pass on"
)
_LLAMA = (
    "Llama's licence: a model that is trained on its output and distributed has a name that begins with Llama, and says"
    " Built with Llama"
)
_TERMS = {
    **dict.fromkeys(("cc0-1.0", "pddl", "unlicense", "wtfpl", "0bsd"), _PUBLIC),
    **dict.fromkeys(
        (
            *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "odc-by", "cdla-permissive-1.0"),
            *("cdla-permissive-2.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0"),
        ),
        Terms(),
    ),
    **dict.fromkeys(
        (
            *("cc-by-sa-3.0", "cc-by-sa-4.0", "odbl", "cdla-sharing-1.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0"),
            *("agpl-3.0", "lgpl-3.0", "mpl-2.0"),
        ),
        Terms(share_alike=True),
    ),
    **dict.fromkeys(("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"), Terms(commercial=False)),
    **dict.fromkeys(
        ("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"), Terms(commercial=False, share_alike=True)
    ),
    "cc-by-nd-4.0": Terms(derivatives=False),
    **dict.fromkeys(("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"), Terms(commercial=False, derivatives=False)),
    # Sections 3.1 of Gemma's terms, 1.b of Llama's: whoever gets the weights, or weights made of them, gets the terms.
    "gemma": Terms(weights_alike=True, note=_GEMMA),
    **dict.fromkeys(("llama3.1", "llama3.2", "llama3.3", "llama4"), Terms(weights_alike=True, note=_LLAMA)),
    # Section 1.b.v of both: outputs are not used to improve any other large language model.
    **dict.fromkeys(("llama2", "llama3"), Terms(training=False, weights_alike=True)),
    **dict.fromkeys(("qwen-research", "mistral-research"), Terms(commercial=False, weights_alike=True)),
    "openai-terms": Terms(training=False),
    "anthropic-terms": Terms(training=False),
    "gemini-terms": Terms(training=False),
}
# Beside those above, what the Hub takes as a licence; https://huggingface.co/docs/hub/repositories-licenses.
_MORE_OF_THE_HUB = frozenset(
    [
        "openrail",
        "openrail++",
        "bigscience-openrail-m",
        "creativeml-openrail-m",
        "bigscience-bloom-rail-1.0",
        "bigcode-openrail-m",
        "afl-3.0",
        "artistic-2.0",
        "bsl-1.0",
        "bsd-3-clause-clear",
        "c-uda",
        "cc",
        "ecl-2.0",
        "epl-1.0",
        "epl-2.0",
        "etalab-2.0",
        "eupl-1.1",
        "eupl-1.2",
        "lgpl",
        "lgpl-2.1",
        "h-research",
        "intel-research",
        "lppl-1.3c",
        "ms-pl",
        "apple-ascl",
        "apple-amlr",
        "osl-3.0",
        "postgresql",
        "ofl-1.1",
        "ncsa",
        "zlib",
        "lgpl-lr",
        "deepfloyd-if-license",
        "fair-noncommercial-research-license",
        "unknown",
        "other",
    ]
)
_NOT_OF_THE_HUB = frozenset(
    {"0bsd", "qwen-research", "mistral-research", "openai-terms", "anthropic-terms", "gemini-terms"}
)
# By repo on the Hub, the first pattern that fits; as their cards said in 2026. Exceptions stand first.
_MODELS = (
    *(
        (f"google/{name}*", "gemma")
        for name in ("gemma-2b", "gemma-7b", "gemma-1.1", "gemma-2-", "gemma-3-", "gemma-3n")
    ),
    ("google/translategemma*", "gemma"),
    ("google/metricx*", "apache-2.0"),
    ("google/madlad400*", "apache-2.0"),
    *((f"google/{name}", "apache-2.0") for name in ("mt5-*", "flan-t5-*", "t5-v1_1-*")),
    ("Qwen/Qwen2.5*-3B*", "qwen-research"),
    ("Qwen/Qwen2.5*72B*", OTHER),
    *((f"Qwen/Qwen2.5-{name}B*", "apache-2.0") for name in ("0.5", "1.5", "7", "14", "32")),
    *(
        (f"Qwen/Qwen2.5-{kind}-{size}B*", "apache-2.0")
        for kind in ("Math", "Coder")
        for size in ("1.5", "7", "14", "32")
    ),
    *((f"Qwen/Qwen3-{name}*", "apache-2.0") for name in ("0.6B", "1.7B", "4B", "8B", "14B", "32B", "30B", "235B")),
    ("Qwen/QwQ-32B", "apache-2.0"),
    ("meta-llama/Llama-2*", "llama2"),
    ("meta-llama/Meta-Llama-3-*", "llama3"),
    ("meta-llama/*Llama-3.1*", "llama3.1"),
    ("meta-llama/Llama-3.2*", "llama3.2"),
    ("meta-llama/Llama-3.3*", "llama3.3"),
    ("meta-llama/Llama-4*", "llama4"),
    ("deepseek-ai/DeepSeek-R1", "mit"),
    ("deepseek-ai/DeepSeek-V3-0324", "mit"),
    ("deepseek-ai/DeepSeek-V3.*", "mit"),
    ("microsoft/phi-4*", "mit"),
    ("openai/gpt-oss*", "apache-2.0"),
    ("nvidia/OpenMath-Nemotron*", "cc-by-4.0"),
    ("nvidia/AceMath*", "cc-by-nc-4.0"),
    ("Unbabel/wmt22-comet-da", "apache-2.0"),
    ("Unbabel/XCOMET*", "cc-by-nc-sa-4.0"),
    ("Unbabel/wmt22-cometkiwi-da", "cc-by-nc-sa-4.0"),
    ("Unbabel/wmt23-cometkiwi*", "cc-by-nc-sa-4.0"),
    ("facebook/nllb*", "cc-by-nc-4.0"),
    ("Cohere*/*", "cc-by-nc-4.0"),
)
_DATASETS = (
    ("allenai/MADLAD-400", "odc-by"),
    ("allenai/c4", "odc-by"),
    *((f"HuggingFaceFW/{name}", "odc-by") for name in ("fineweb", "fineweb-edu", "fineweb-2", "fineweb-edu-score-2")),
    ("nvidia/OpenMathReasoning", "cc-by-4.0"),
    ("nvidia/OpenCodeGeneticInstruct", "cc-by-4.0"),
    ("nvidia/OpenMathInstruct-2", "cc-by-4.0"),
    ("openai/gsm8k", "mit"),
    ("AI-MO/NuminaMath*", "apache-2.0"),
    ("wikimedia/wikipedia", "cc-by-sa-3.0"),
)
_SERVERS = (
    ("*openai.com", "openai-terms"),
    ("*openai.azure.com", "openai-terms"),
    ("*anthropic.com", "anthropic-terms"),
    ("*googleapis.com", "gemini-terms"),
)


@dataclass(frozen=True)
class Part:
    """Something that a release or a tuned model is made of, or by, and its licence.

    role: source, dataset, model (it wrote texts), judge, scorer or chooser (it chose), base (its weights are tuned).
    told: config, known, or unknown.
    """

    role: str
    name: str
    licence: str
    told: str

    @property
    def terms(self) -> Terms | None:
        """None where they are not known here."""
        return terms_of(self.licence)


def terms_of(licence: str) -> Terms | None:
    """What a licence asks, by the Hub's name of it; None for one that is not known here."""
    return _TERMS.get(licence.lower())


def known_licence(kind: str, name: str) -> str | None:
    """The licence of a model or dataset repo on the Hub, or of what a server answers. kind: model, dataset, server."""
    table = {"model": _MODELS, "dataset": _DATASETS, "server": _SERVERS}[kind]
    return next((licence for pattern, licence in table if fnmatch.fnmatchcase(name, pattern)), None)


def on_the_hub(licence: str) -> tuple[str, str | None]:
    """What the Hub has for a licence, and the licence's own name where that is `other`."""
    known = licence.lower()
    if known in _MORE_OF_THE_HUB or (known in _TERMS and known not in _NOT_OF_THE_HUB):
        return known, None
    return OTHER, licence


def derive(parts: Sequence[Part]) -> str:
    """The most permissive licence that a release of these parts can have; unknown where one of them is.

    `other` where the terms of one are not known here, and stand in no one's way.
    """
    binding = [part for part in parts if part.role in BINDING]
    if not binding or any(part.licence == UNKNOWN for part in binding):
        return UNKNOWN
    texts = [part for part in binding if part.role != "model"]
    for part in texts:
        if part.terms is not None and part.terms.share_alike:
            return part.licence
    if any(part.terms is not None and not part.terms.commercial for part in binding):
        return next(
            (part.licence for part in texts if part.terms is not None and not part.terms.commercial), "cc-by-nc-4.0"
        )
    if any(part.terms is None for part in binding):
        return OTHER
    licences = {part.licence for part in texts}
    if len(licences) == 1:
        return licences.pop()
    asked = any(part.terms is not None and part.terms.attribution for part in texts)
    return "cc-by-4.0" if asked else "cc0-1.0"


def conflicts(licence: str, parts: Sequence[Part]) -> list[str]:
    """What forbids to release these parts, or what is tuned of them, under a licence: a sentence each, with names.

    A licence whose terms are not known here is taken for one that allows any use.
    """
    wanted = terms_of(licence)
    any_use = licence != UNKNOWN and (wanted is None or wanted.commercial)
    found = []
    for part in parts:
        terms = part.terms
        if part.role not in (*BINDING, BASE) or terms is None:
            continue
        who = f"{part.role} {part.name} ({part.licence})"
        if not terms.training and part.role != BASE:
            found.append(f"{who}: its terms forbid to train other models on what it writes")
        if part.role == "model":
            if not terms.commercial and any_use:
                found.append(f"{who}: is for non-commercial use, and {licence} {_allows(wanted)}")
            continue
        if not terms.derivatives:
            found.append(f"{who}: allows nothing to be made of it")
        if not terms.commercial and any_use:
            found.append(f"{who}: is for non-commercial use, and {licence} {_allows(wanted)}")
        elif licence != UNKNOWN and (
            (terms.share_alike and not _same_family(part.licence, licence))
            or (part.role == BASE and terms.weights_alike and licence.lower() != part.licence.lower())
        ):
            found.append(f"{who}: what is made of it has to have the same licence, not {licence}")
    return found


def _allows(wanted: Terms | None) -> str:
    return "allows any" if wanted is not None else "is not known here to forbid any"


def _same_family(asked: str, given: str) -> bool:
    """Whether a licence is the same, or a later version."""
    family = re.compile(r"(.*?)-?(\d+(?:\.\d+)?)?")
    asked, given = asked.lower(), given.lower()
    (one, least), (other, version) = family.fullmatch(asked).groups(), family.fullmatch(given).groups()  # type: ignore[union-attr]
    return bool(one == other and float(version or 0) >= float(least or 0))
