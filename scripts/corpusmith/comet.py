"""COMET (Rei et al. 2020, Unbabel/COMET, Apache-2.0): translations scored by COMET's own classes.

A checkpoint is a folder as Unbabel publishes it: hparams.yaml names the class, checkpoints/model.ckpt holds the weights
and the settings. Some classes compare with a reference, some read it where there is one, some never. Higher is better.

Loaded as COMET loads it, but for this: the encoder's configuration and tokenizer come from a folder, not from the Hub,
and nothing that the checkpoint may hold beside numbers and settings is ever run.
"""

from __future__ import annotations

import inspect
import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch.serialization import get_unsafe_globals_in_checkpoint

from corpusmith.batching import pack, read_back
from corpusmith.errors import InputError
from corpusmith.pairs import Pair, Scored

# Its tokenizer is named in COMET's code and would come from the Hub.
_ENCODER_WITHOUT_FOLDER = "MiniLM"


class Batch(NamedTuple):
    """Pairs of like length. places: theirs among all; inputs: as COMET's `prepare_sample` makes them."""

    places: list[int]
    inputs: Any


@dataclass(frozen=True)
class Prepared:
    """Pairs in batches; and whether each pair was truncated."""

    batches: list[Batch]
    truncated: list[bool]


class Comet:
    """A COMET checkpoint.

    folder: the checkpoint; encoder: a folder with the configuration and the tokenizer of the encoder that hparams.yaml
    names as pretrained_model, its weights being the checkpoint's; dtype: what the encoder computes with, as torch names
    it (the layers behind it have at least float32); tokens_per_batch: most tokens, padding counted, in one pass of the
    encoder. Raises InputError where the folder holds no such checkpoint.
    """

    def __init__(
        self,
        folder: str | Path,
        encoder: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        tokens_per_batch: int = 16_384,
    ) -> None:
        self._folder, self._device, self._dtype = Path(folder), torch.device(device), getattr(torch, dtype)
        self._tokens_per_batch = tokens_per_batch
        self._model = _load(self._folder, Path(encoder))
        wide = torch.promote_types(self._dtype, torch.float32)
        self._model.to(wide)
        self._model.encoder.model.to(self._dtype)
        if wide != self._dtype:
            # COMET pools in float32 and then, of the narrow formats, can go on in float16 alone.
            self._model.encoder.register_forward_hook(partial(_widen, wide))
        self._model.to(self._device)
        # What is read, by the names that COMET has for it. Classes that read everything as one sequence list it.
        segments = self._model.hparams.get("input_segments")
        self._as_one = segments is not None
        self._needs_reference = self._model.requires_references()
        self._segments: Sequence[str] = segments or ("src", "mt", "ref")[: 3 if self._needs_reference else 2]

    def score(self, pairs: Sequence[Pair]) -> list[Scored]:
        """What there is to say of each pair, in the order of the pairs."""
        return sorted(chain.from_iterable(self.score_batches(self.prepare(pairs))), key=lambda scored: scored.place)

    def prepare(self, pairs: Sequence[Pair]) -> Prepared:
        """The pairs as `score_batches` wants them: a CPU can do that while a GPU scores others.

        Raises InputError where the model compares with references and a pair has none.
        """
        lacking = sum(pair.reference is None for pair in pairs)
        if self._needs_reference and lacking:
            raise InputError(
                f"{self._folder}: this model compares with references, and {lacking:,} of {len(pairs):,} pairs have"
                " none; give it references, with references: true, or take a reference-free model, such as"
                " Unbabel/wmt22-cometkiwi-da"
            )
        samples = [self._sample(pair) for pair in pairs]
        texts = list(dict.fromkeys(chain.from_iterable(sample.values() for sample in samples)))
        tokens = self._model.encoder.tokenizer(texts, verbose=False)["input_ids"] if texts else []
        counts = dict(zip(texts, map(len, tokens), strict=True))
        fitted = [self._fit([counts[text] for text in sample.values()]) for sample in samples]
        # In a batch, all pairs have a reference or none has.
        alike: dict[tuple[str, ...], list[int]] = {}
        for place, sample in enumerate(samples):
            alike.setdefault(tuple(sample), []).append(place)
        batches = [
            Batch(places, self._model.prepare_sample([samples[place] for place in places], stage="predict"))
            for group in alike.values()
            for places in _packed(group, [fitted[place][0] for place in group], self._tokens_per_batch)
        ]
        return Prepared(batches, [truncated for _, truncated in fitted])

    def score_batches(self, prepared: Prepared) -> Iterator[list[Scored]]:
        """The same as `score` as it comes, batch by batch."""
        for places, inputs in prepared.batches:
            with torch.inference_mode():
                there = self._model.transfer_batch_to_device(inputs, self._device, 0)
                found = read_back(self._model.predict_step(there).scores.double(), self._dtype)
            yield [
                Scored(place, score, prepared.truncated[place])
                for place, score in zip(places, found.tolist(), strict=True)
            ]

    def _sample(self, pair: Pair) -> dict[str, str]:
        values = {"src": pair.source, "mt": pair.hypothesis, "ref": pair.reference}
        return {name: value for name in self._segments if (value := values[name]) is not None}

    def _fit(self, counts: list[int]) -> tuple[int, bool]:
        """How many tokens the encoder's longest pass over a pair has, and whether COMET cuts something off.

        counts: tokens of each text, beginning and end counted.
        """
        encoder = self._model.encoder
        most: int = encoder.max_positions
        kept = [min(count, most - 2) for count in counts]
        if not self._as_one:
            return max(kept), kept != counts
        # One beginning and one end for all, and between two texts a separator.
        whole = sum(kept) - 2 * len(kept) + 2 + encoder.size_separator * (len(kept) - 1)
        return min(whole, most), kept != counts or whole > most


def _packed(places: list[int], lengths: list[int], tokens_per_batch: int) -> list[list[int]]:
    return [[places[number] for number in batch] for batch in pack(lengths, tokens_per_batch)]


def _widen(dtype: torch.dtype, _: Any, inputs: Any, output: dict[str, Any]) -> dict[str, Any]:
    """What an encoder of COMET's gives, in another number format: tensors, and a tuple of all layers."""

    def widen(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(widen, value))
        return value.to(dtype) if torch.is_tensor(value) and value.is_floating_point() else value

    return {name: widen(value) for name, value in output.items()}


def _load(folder: Path, encoder: Path) -> Any:
    """The model of a checkpoint, ready to score."""
    published = _read_hparams(folder / "hparams.yaml")
    file = _file_of_weights(folder)
    weights, settings = _read_checkpoint(file, published)
    if published.get("layer_transformation") == "sparsemax_patch":
        # Up to COMET 2.2.4 such models took softmax whatever their settings said, in training, too.
        settings["layer_transformation"] = "softmax"
    if settings.get("encoder_model") == _ENCODER_WITHOUT_FOLDER:
        raise InputError(
            f"{folder}: its encoder is a {_ENCODER_WITHOUT_FOLDER}, whose tokenizer COMET takes from the Hub; take"
            " another checkpoint, such as Unbabel/wmt22-comet-da"
        )
    # Without this file, the folder's name would be looked up on the Hub.
    if not (encoder / "config.json").is_file():
        raise InputError(f"{encoder}: no config.json of an encoder; this one wants {settings.get('pretrained_model')}")
    classes, without_random_weights = _import_comet()
    if published["class_identifier"] not in classes:
        raise InputError(
            f"{folder / 'hparams.yaml'}: class_identifier is {published['class_identifier']!r}; COMET has"
            f" {', '.join(sorted(classes))}"
        )
    kind = classes[published["class_identifier"]]
    known = inspect.signature(kind).parameters
    arguments = {name: value for name, value in settings.items() if name in known}
    arguments |= {"pretrained_model": str(encoder), "load_pretrained_weights": False, "local_files_only": True}
    try:
        # Random numbers for half a billion weights take longer than reading them.
        with without_random_weights():
            model = kind(**arguments)
    except Exception as error:
        # Readers of tokenizers raise errors of their own, and settings may be anything.
        line = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(
            f"{folder}: COMET cannot make this model with the encoder in {encoder} ({line}); its encoder is"
            f" {settings.get('pretrained_model')}"
        ) from error
    _fill(model, weights, file, f"{encoder}; its encoder is {settings.get('pretrained_model')}")
    return model.eval().requires_grad_(False)


def _read_hparams(file: Path) -> dict[str, Any]:
    """The settings that lie beside a checkpoint: of those, COMET takes only which class it is."""
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file.parent}: no COMET checkpoint here (hparams.yaml and checkpoints/model.ckpt)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as plain YAML ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("class_identifier"), str):
        raise InputError(f"{file}: says no class_identifier, which every COMET checkpoint has since COMET 2.0")
    return settings


def _file_of_weights(folder: Path) -> Path:
    found = sorted((folder / "checkpoints").glob("*.ckpt"))
    published = [file for file in found if file.name == "model.ckpt"]
    if len(published or found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise InputError(f"{folder}: checkpoints/ has no model.ckpt and not just one other .ckpt file, but {names}")
    return (published or found)[0]


def _read_checkpoint(file: Path, published: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights by name, and the settings of the model, which are those in hparams.yaml where there are no others."""
    try:
        unsafe = get_unsafe_globals_in_checkpoint(file)
        if unsafe:
            raise InputError(
                f"{file}: holds Python objects ({', '.join(sorted(unsafe))}) whose loading could run any code, and is"
                " not loaded; where you trust it, load it with torch.load and save nothing but its state_dict and its"
                " hyper_parameters as plain dicts"
            )
        checkpoint = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, RuntimeError, ValueError, LookupError, pickle.UnpicklingError, EOFError) as error:
        # What follows the first sentence is advice on other causes.
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise InputError(f"{file}: is no whole file of weights ({reason}); make or fetch it again") from error
    weights = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict):
        raise InputError(f"{file}: has no state_dict, as the checkpoints of COMET have")
    return weights, dict(checkpoint.get("hyper_parameters") or published)


def _import_comet() -> tuple[dict[str, Any], Any]:
    """COMET's classes by identifier, and a context in which models are made without random weights."""
    try:
        with warnings.catch_warnings():
            # The torchmetrics that COMET wants asks for what setuptools is about to drop.
            warnings.filterwarnings("ignore", "pkg_resources is deprecated")
            from comet.models import str2model
        from transformers.modeling_utils import no_init_weights  # type: ignore[attr-defined] # of transformers 4
    except ImportError as error:
        raise InputError(
            f"no COMET in this Python ({error}); the environment of envs/comet.yaml or comet-cpu.yaml has it"
        ) from error
    logging.getLogger("comet").setLevel(logging.WARNING)
    return str2model, no_init_weights


def _fill(model: Any, weights: Mapping[str, Any], file: Path, encoder: str) -> None:
    """Gives a model its weights; such as it has no place for, of parts that only training needs, are left out."""
    own = {name: value.shape for name, value in model.state_dict().items()}
    lacking = [name for name, _ in model.named_parameters() if name not in weights]
    if lacking:
        # They would stay whatever was in memory.
        raise InputError(f"{file}: the weights lack {len(lacking)} tensors of the model, such as {lacking[0]}")
    wrong = [name for name in own if name in weights and getattr(weights[name], "shape", None) != own[name]]
    if wrong:
        raise InputError(f"{file}: {wrong[0]} has another shape than the model makes with the encoder in {encoder}")
    model.load_state_dict(weights, strict=False)
    highest, size = max(model.encoder.tokenizer.get_vocab().values()), model.encoder.model.config.vocab_size
    if highest >= size:
        raise InputError(f"{file}: {size:,} tokens do not belong to the tokenizer of {highest + 1:,} in {encoder}")
