"""The store as programs use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from corpusmith.store.compaction import Compacted, compact
from corpusmith.store.folder import model_folder, model_folders
from corpusmith.store.kinds import KINDS, Kind
from corpusmith.store.liveness import DEAD_SECONDS
from corpusmith.store.pruning import Pruned, prunable_files, prune
from corpusmith.store.reader import find_winners, unique_keys, which_found, whole_keys
from corpusmith.store.report import Contents, contents
from corpusmith.store.writer import Writer


class Store:
    """A store of model answers in a folder, which need not be there yet.

    commit_seconds: at most so much work is lost by a kill. seal_bytes: size at which a journal is sealed.
    segment_bytes: size at which compaction cuts segments. dead_seconds: a journal that has not been written for so
    long, by a process on another machine, is one of the dead; no less than half an hour.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        commit_seconds: float = 2.0,
        seal_bytes: int = 128 << 20,
        segment_bytes: int = 128 << 20,
        dead_seconds: float = DEAD_SECONDS,
    ) -> None:
        self.folder = Path(folder)
        self._commit_seconds, self._seal_bytes = commit_seconds, seal_bytes
        self._segment_bytes, self._dead_seconds = segment_bytes, dead_seconds

    def writer(self, kind: Kind, model: str) -> Writer:
        """What adds answers of a model, a context manager. Raises InputError where the store cannot be written.

        model: the identity of the model or metric, never a path.
        """
        return Writer(model_folder(self.folder, kind, model), self._commit_seconds, self._seal_bytes)

    def lookup(self, kind: Kind, model: str, keys: Iterable[bytes]) -> dict[bytes, dict[str, Any]]:
        """The answers to those of the keys that have one. All of them are in memory: for many keys, see `in_order`."""
        wanted = unique_keys(kind, keys)
        names, winners = kind.columns, find_winners(model_folder(self.folder, kind, model), wanted)
        places = sorted(winners)
        found = whole_keys(kind, wanted[places])
        return {
            key: dict(zip(names, winners[place].values, strict=True)) for key, place in zip(found, places, strict=True)
        }

    def in_order(
        self, kind: Kind, model: str, keys: Iterable[bytes], at_once: int = 16_384
    ) -> Iterator[dict[str, Any] | None]:
        """The answer to each key, None where there is none, in the order of the keys and in flat memory.

        at_once: keys that are looked up together: each time, the store's keys between the least and greatest are read.
        """
        remaining = iter(keys)
        while some := list(islice(remaining, at_once)):
            found = self.lookup(kind, model, some)
            for key in some:
                yield found.get(key)

    def missing(self, kind: Kind, model: str, keys: Iterable[bytes]) -> set[bytes]:
        """The keys that have no answer yet. Reads no answers."""
        wanted = unique_keys(kind, keys)
        return set(whole_keys(kind, wanted[~which_found(model_folder(self.folder, kind, model), wanted)]))

    def report(self) -> list[Contents]:
        """What is in the store, by kind and model."""
        return [contents(folder) for folder in model_folders(self.folder)]

    def compact(self) -> list[Compacted]:
        """Seals the journals of the dead and makes many segments few. Others may read, write and compact meanwhile."""
        return [compact(folder, self._segment_bytes, self._dead_seconds) for folder in model_folders(self.folder)]

    def prune(self, keep: Callable[[], Mapping[str, np.ndarray]], *, dry: bool = True) -> list[Pruned]:
        """Removes what is not used, and says what that is. dry: removes nothing.

        keep: gives the keys whose answers stay, whatever model they are of, by the name of their kind: sorted, as
        `unique_keys` makes them. A kind that is not named stays as it is. A model none of whose answers is used goes as
        a whole. keep is called when it is settled which files are looked at, so that answers which are written while it
        looks for keys stay, and so do those of processes that write just now.
        """
        folders = list(model_folders(self.folder))
        files = [prunable_files(folder, self._dead_seconds, dry) for folder in folders]
        kept = keep()
        for kind, keys in kept.items():
            if keys.dtype != f"S{KINDS[kind].key_bytes}" or not np.all(keys[1:] > keys[:-1]):
                raise ValueError(f"the keys of {kind} that stay are not sorted, each once")
        pruned = []
        for folder, names in zip(folders, files, strict=True):
            if folder.kind.name in kept:
                result = prune(folder, names, kept[folder.kind.name], self._segment_bytes, dry)
                if result.answers or result.whole:
                    pruned.append(result)
        return pruned
