"""The licence of a release, from what the config says of sources and models. Imported by the Snakefile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from corpusmith.licences import BASE, BINDING, UNKNOWN, Part, conflicts, derive, known_licence, on_the_hub, terms_of
from corpusmith.recipes import recipe_of
from corpusmith.recipes.common import FILTER_JUDGE, filters_with_models

# The toy world is made here, and nobody's.
_TOY = "cc0-1.0"
_ALLOWED = "allowed: a licence that fits, or licence_override with the reason, which the card will tell"


def release_licence(config: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """What a release says of its licence.

    licence: as the Hub names it; name: its own name where that is `other`; parts: what the release is made of, and by;
    conflicts: what stands against it; override: the reasons why it stands, of the dataset and of those it is made of.
    """
    entry = config["datasets"][dataset]
    before = {name: release_licence(config, name) for name in entry["sources"].get("dataset", [])}
    parts = _parts(config, dataset, before)
    licence = entry["release"]["licence"] or derive(parts)
    known, name = on_the_hub(licence)
    before_it = {name: found["override"] for name, found in before.items()}
    return {
        "licence": known,
        "name": name,
        "link": None,
        "parts": [
            {
                "role": part.role,
                "name": part.name,
                "licence": part.licence,
                "from": part.told,
                "note": _note(part),
            }
            for part in parts
        ],
        "conflicts": conflicts(licence, parts),
        "override": _reasons(entry["release"]["licence_override"], before_it),
    }


def _reasons(own: str | None, before: Mapping[str, str | None]) -> str | None:
    """The reasons why a licence stands: its own, and those of what it is made of."""
    found = [own, *(reason and f"of {name}: {reason}" for name, reason in before.items())]
    return "; ".join(filter(None, found)) or None


def _note(part: Part) -> str | None:
    if part.role not in BINDING or part.licence == UNKNOWN:
        return None
    return part.terms.note if part.terms is not None else "its terms are not known here: read them"


def licence_contradictions(config: Mapping[str, Any], dataset: str) -> Iterator[str]:
    """What stops a release: conflicts that no reason overrides, a public one whose licence nobody knows."""
    entry = config["datasets"][dataset]
    found = release_licence(config, dataset)
    path = f"datasets.{dataset}.release.licence"
    before = [release_licence(config, name) for name in entry["sources"].get("dataset", [])]
    # What a dataset that this one is made of gave a reason for needs none here.
    overridden = {_who(conflict) for source in before if source["override"] for conflict in source["conflicts"]}
    open_ = [conflict for conflict in found["conflicts"] if _who(conflict) not in overridden]
    if entry["release"]["licence_override"] is None:
        for conflict in open_:
            yield f"{path}: {found['name'] or found['licence']} contradicts {conflict}; {_ALLOWED}"
    elif not open_:
        yield f"{path}_override: nothing is to be overridden; allowed: no such key"
    publish = entry["publish"]
    if publish is not None and not publish["private"] and found["licence"] == UNKNOWN:
        names = ", ".join(f"{part['role']} {part['name']}" for part in found["parts"] if part["licence"] == UNKNOWN)
        yield f"{path}: is unknown, and the release is to be public; give it, or the licence of {names}"


def _who(conflict: str) -> str:
    return conflict.partition(":")[0]


def _parts(config: Mapping[str, Any], dataset: str, before: Mapping[str, Mapping[str, Any]]) -> list[Part]:
    """What a dataset is made of and by; what binds those that it is made of binds it as well."""
    entry = config["datasets"][dataset]
    found = [
        *(
            Part("dataset", name, source["name"] or source["licence"], "its own release")
            for name, source in before.items()
        ),
        # What a model made up has no other source than the model.
        *([] if before or "pre_query" in entry["sources"] else [_source(config, dataset)]),
        *_models(config, entry),
    ]
    for source in before.values():
        found += [
            Part(part["role"], part["name"], part["licence"], part["from"])
            for part in source["parts"]
            if part["role"] in BINDING
        ]
    return list({(part.role, part.name): part for part in reversed(found)}.values())[::-1]


def _source(config: Mapping[str, Any], dataset: str) -> Part:
    sources = config["datasets"][dataset]["sources"]
    name = dataset
    known = None
    if "hub" in sources:
        name = str(sources["hub"].get("repo", sources["hub"].get("split", ""))).split(":")[0]
        known = known_licence("dataset", name)
    elif "toy" in sources:
        known = _TOY
    elif "files" in sources:
        # Where they lie on somebody's disk is nobody's business.
        name = ", ".join(PurePosixPath(pattern).name for pattern in sources["files"])
    return _part("source", name, sources["licence"], known)


def _models(config: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[Part]:
    recipe, seen = recipe_of(entry), set()
    steps = [(step, recipe.step_of(entry, step)) for step in recipe.steps(entry)]
    if entry["filter"]["judge"] is not None:
        steps.append((FILTER_JUDGE, entry["filter"]["judge"]))
    roles = [
        *(("model", name) for name in recipe.writers(entry)),
        *(("judge", step["model"]) for name, step in steps if "judge" in name),
        *(("scorer", step["scorer"]) for _, step in steps if "scorer" in step),
        *(("chooser", step["model"]) for _, step in steps),
        *(("chooser", settings["model"]) for settings in filters_with_models(entry)),
    ]
    for role, name in roles:
        if name not in seen:
            seen.add(name)
            model = config["models"].get(name) or config["scorers"].get(name)
            yield _part(role, name, model["licence"], _known(model))


def tuning_licence(config: Mapping[str, Any], name: str) -> str:
    """The licence of a tuned model: as given, or that of the weights that it began with.

    Unknown where theirs is, and where that of the rows is, or something contradicts it.
    """
    entry = config["tuning"][name]
    if entry["licence"] is not None:
        return str(entry["licence"])
    licence = _licence_of_weights(config, entry)
    data = entry["data"]
    rows = _licence_of_release(config, data["dataset"]) if "dataset" in data else UNKNOWN
    return UNKNOWN if rows == UNKNOWN or _open_conflicts(config, name, licence) else licence


def _licence_of_weights(config: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """That of the base of a tuning, or of the tuning before it."""
    if entry["adapter"] is not None:
        return tuning_licence(config, entry["adapter"])
    return model_licence(config["models"][entry["base"]])


def _licence_of_release(config: Mapping[str, Any], dataset: str) -> str:
    release = release_licence(config, dataset)
    found: str = release["name"] or release["licence"]
    return found


def _tuned_of(config: Mapping[str, Any], name: str) -> list[tuple[str, Part]]:
    """What a tuning is made of, with what a card calls it: base, tunings before, the rows of all, who wrote them."""
    entry = config["tuning"][name]
    data, adapter = entry["data"], entry["adapter"]
    if adapter is None:
        base = entry["base"]
        found = [("base", Part(BASE, base, model_licence(config["models"][base]), "config"))]
    else:
        licence = tuning_licence(config, adapter)
        found = [*_tuned_of(config, adapter), ("tuning before", Part(BASE, adapter, licence, "its own tuning"))]
    if "dataset" not in data:
        files = ", ".join(PurePosixPath(pattern).name for pattern in data["files"])
        return [*found, ("rows", Part("dataset", files, UNKNOWN, "unknown"))]
    dataset = data["dataset"]
    found.append(("rows", Part("dataset", dataset, _licence_of_release(config, dataset), "its own release")))
    written = [part for part in release_licence(config, dataset)["parts"] if part["role"] in BINDING]
    found += [(part["role"], Part(part["role"], part["name"], part["licence"], part["from"])) for part in written]
    return list(dict.fromkeys(found))


def _conflicts(config: Mapping[str, Any], name: str, licence: str) -> list[str]:
    return conflicts(licence, [part for _, part in _tuned_of(config, name)])


def _open_conflicts(config: Mapping[str, Any], name: str, licence: str) -> list[str]:
    """What contradicts a licence of a tuning, but what its rows or the tuning before gave a reason for."""
    entry = config["tuning"][name]
    data, adapter = entry["data"], entry["adapter"]
    excused: set[str] = set()
    if "dataset" in data:
        release = release_licence(config, data["dataset"])
        excused.update(release["conflicts"] if release["override"] else ())
    while adapter is not None:
        before = config["tuning"][adapter]
        if before["licence_override"] is not None:
            excused.update(_conflicts(config, adapter, tuning_licence(config, adapter)))
        adapter = before["adapter"]
    return [conflict for conflict in _conflicts(config, name, licence) if conflict not in excused]


def tuning_terms(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a tuned model says of its licence.

    parts: its base, the tunings before, its rows and theirs, and who wrote them; conflicts: what stands against the
    licence; override: why it stands all the same.
    """
    entry = config["tuning"][name]
    data, adapter = entry["data"], entry["adapter"]
    parts = [
        {
            "role": role,
            "name": part.name,
            "licence": part.licence,
            # What the terms of rows ask is told of who wrote them.
            "note": part.terms.note if part.terms is not None and role != "rows" else None,
        }
        for role, part in _tuned_of(config, name)
    ]
    reasons = {adapter: tuning_terms(config, adapter)["override"]} if adapter is not None else {}
    if "dataset" in data:
        reasons[data["dataset"]] = release_licence(config, data["dataset"])["override"]
    return {
        "parts": parts,
        "conflicts": _conflicts(config, name, tuning_licence(config, name)),
        "override": _reasons(entry["licence_override"], reasons),
    }


def tuning_licence_contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    """Licences that contradict those of base and rows without a reason; public tunings whose licence nobody knows."""
    for name, entry in config["tuning"].items():
        path, publish, licence = f"tuning.{name}.licence", entry["publish"], tuning_licence(config, name)
        found = _open_conflicts(config, name, licence) if publish is not None or entry["licence"] is not None else []
        if entry["licence_override"] is None:
            for conflict in found:
                yield f"{path}: {licence} contradicts {conflict}; {_ALLOWED}"
        elif not found:
            yield f"{path}_override: nothing is to be overridden; allowed: no such key"
        if publish is not None and not publish["private"] and licence == UNKNOWN:
            weights = _licence_of_weights(config, entry)
            why = "".join(f"; {weights} contradicts {one}" for one in _open_conflicts(config, name, weights)[:1])
            yield f"{path}: is unknown, and the model is to be public; it has to be given{why}"


def model_licence(model: Mapping[str, Any]) -> str:
    """The licence of a model of the config, as far as it is known."""
    return model["licence"] or _known(model) or UNKNOWN


def _known(model: Mapping[str, Any]) -> str | None:
    if "toy" in model:
        return _TOY
    if "openai" in model:
        return known_licence("server", urlsplit(model["openai"]["base_url"]).hostname or "")
    return known_licence("model", model["repo"]) if "repo" in model else None


def _part(role: str, name: str, given: str | None, known: str | None) -> Part:
    if given is not None:
        return Part(role, name, given if terms_of(given) is None else given.lower(), "config")
    return Part(role, name, known or UNKNOWN, "known" if known else "unknown")
