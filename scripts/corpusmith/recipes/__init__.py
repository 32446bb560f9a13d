"""What recipes differ in: the way that their rows take, and which settings go together.

Each is a module with the same functions, of a dataset's part of the config:

    steps                        names of the steps on whose answers a release rests, in order
    step_of                      a step's config
    pool                         the table of items that everything is counted from
    stages, side_stages          accounts along the way of the items, and beside it
    tables, dropped              every table; those of what was dropped
    samples                      tables of further answers to released items
    kinds                        kinds of tables that models and scorers make in a step
    counting                     the model whose tokenizer counts
    environments                 those of its own programs
    writers                      models that write what is released
    released_texts               where its releases hold texts: columns, and samples
    learnt                       how its rows become some to tune a model on; None where they hold conversations
    contradictions               what a schema cannot say: names that do not exist, settings that exclude each other
    FILTER                       folder of what its own filter kept and rejected
    TEXTS, NUMBERS               columns of its rows that filters may name; duplicates are known by the first text
    SOURCES                      keys of which one says where its rows come from

All of this up to its own filter: the filters of every recipe, in recipes.common, are added by corpusmith.layout.
Entries are NAME, or FOLDER=SHARDS where there is one file for each shard. Imported by the Snakefile: nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from corpusmith.recipes import instructions, maths, translation

RECIPES: dict[str, ModuleType] = {
    "translation": translation,
    "maths": maths,
    "instructions": instructions,
}


def recipe_of(entry: Mapping[str, Any]) -> Any:
    """The module of a dataset's recipe."""
    return RECIPES[entry["recipe"]]
