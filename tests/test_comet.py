"""The COMET scorer: real COMET on a CPU, in an environment made for it, on tiny checkpoints of each of its classes.

What needs no COMET is tried at once; the rest is slow. The functions `make_checkpoints` and `score_pairs` run in the
environment of COMET, which has no pytest: they import what they need.
"""

from __future__ import annotations

import fcntl
import inspect
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import XLMRobertaConfig

from checkout import CONTROL, need_control
from conftest import ROOT
from corpusmith.comet import Comet
from corpusmith.errors import InputError
from corpusmith.models import describe_folder, write_receipt
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, REQUESTS, SCORES
from hub_server import HubServer
from scoring_tables import answers, asking, receipt_of, run_scorer

LETTERS = "▁abcdefghijklmnopqrstuvwxyz.,?가나다라마바사아"
PIECES = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS, "th", "an", "<mask>"]
# XLM-R numbers positions from 2 on, and COMET leaves room for 2 more where it cuts a text.
POSITIONS, LONGEST, LONGEST_TEXT = 66, 64, 62
BUDGETS = (1, 200, 16_384)
# All classes of COMET: identifier, settings, what hparams.yaml says of the layers, what is read.
SMALL = {"hidden_sizes": [24, 12], "encoder_model": "XLM-RoBERTa", "layer_transformation": "sparsemax"}
MODELS: dict[str, tuple[str, dict[str, Any], str, list[str]]] = {
    "regression": (
        "regression_metric",
        SMALL | {"pool": "avg", "layer": "mix", "layer_norm": False},
        "sparsemax",
        ["src", "mt", "ref"],
    ),
    "referenceless": (
        "referenceless_regression_metric",
        SMALL | {"pool": "cls", "layer": "mix", "layer_norm": True},
        "sparsemax",
        ["src", "mt"],
    ),
    "ranking": (
        "ranking_metric",
        {"pool": "max", "layer": 2, "encoder_model": "XLM-RoBERTa"},
        "softmax",
        ["src", "mt", "ref"],
    ),
    "kiwi": (
        "unified_metric",
        SMALL | {"sent_layer": "mix", "layer_norm": False, "input_segments": ["mt", "src"]},
        "sparsemax_patch",
        ["mt", "src"],
    ),
    "unified": (
        "unified_metric",
        SMALL | {"sent_layer": 2, "word_layer": 3, "word_level_training": True, "input_segments": ["mt", "src", "ref"]},
        "sparsemax",
        ["mt", "src", "ref"],
    ),
    "xcomet": (
        "xcomet_metric",
        SMALL | {"sent_layer": "mix", "word_layer": 3, "error_labels": ["minor", "major", "critical"]},
        "sparsemax_patch",
        ["mt", "src", "ref"],
    ),
}
AS_ONE = ("kiwi", "unified", "xcomet")
WANT_REFERENCES = ("regression", "ranking")


def save_encoder(folder: Path, width: int = 32, pieces: list[str] = PIECES) -> Path:
    """What lies of XLM-R on the Hub beside its weights: configuration and tokenizer, both tiny."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.Unigram([(piece, -len(LETTERS) / len(piece)) for piece in pieces], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LONGEST}))
    XLMRobertaConfig(
        vocab_size=len(PIECES), hidden_size=width, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=POSITIONS, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def save_checkpoint(folder: Path, content: Any, hparams: str = "class_identifier: regression_metric") -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "hparams.yaml").write_text(hparams)
    torch.save(content, folder / "checkpoints" / "model.ckpt")
    return folder


# --- without COMET ---


class Code:
    """Makes a folder where it is loaded from a pickle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    folder = save_checkpoint(tmp_path / "model", {"state_dict": {}, "callbacks": Code(made)})
    with pytest.raises(InputError, match=r"model\.ckpt: holds Python objects \(posix.mkdir\).* is not loaded"):
        Comet(folder, tmp_path)
    torch.load(folder / "checkpoints" / "model.ckpt", weights_only=False)
    assert made.is_dir()  # had it been loaded otherwise


def test_code_in_the_settings_is_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    text = f"class_identifier: !!python/object/apply:os.mkdir ['{made}']"
    with pytest.raises(InputError, match=r"hparams\.yaml: cannot be read as plain YAML .*os.mkdir"):
        Comet(save_checkpoint(tmp_path / "model", {"state_dict": {}}, text), tmp_path)
    assert not made.exists()
    yaml.unsafe_load(text)
    assert made.is_dir()


def test_what_is_no_checkpoint_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path, encoder: Path = tmp_path) -> str:
        with pytest.raises(InputError) as caught:
            Comet(folder, encoder)
        return str(caught.value)

    assert refused(tmp_path) == f"{tmp_path}: no COMET checkpoint here (hparams.yaml and checkpoints/model.ckpt)"
    assert "says no class_identifier" in refused(save_checkpoint(tmp_path / "a", {}, "pool: avg"))
    assert "model.ckpt: has no state_dict" in refused(save_checkpoint(tmp_path / "b", {"weights": {}}))

    folder = save_checkpoint(tmp_path / "c", {"state_dict": {}, "hyper_parameters": {"encoder_model": "MiniLM"}})
    assert "a MiniLM, whose tokenizer COMET takes from the Hub" in refused(folder)
    whole = (folder / "checkpoints" / "model.ckpt").read_bytes()
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\n", whole[: len(whole) // 2]):
        (folder / "checkpoints" / "model.ckpt").write_bytes(content)
        assert "model.ckpt: is no whole file of weights" in refused(folder)
    (folder / "checkpoints" / "model.ckpt").unlink()
    assert "model.ckpt and not just one other .ckpt file, but none" in refused(folder)
    for name in ("epoch=1.ckpt", "epoch=2.ckpt"):
        (folder / "checkpoints" / name).write_bytes(whole)
    assert "one other .ckpt file, but epoch=1.ckpt, epoch=2.ckpt" in refused(folder)

    settings = {"pretrained_model": "somebody/encoder"}
    folder = save_checkpoint(tmp_path / "d", {"state_dict": {}, "hyper_parameters": settings})
    assert refused(folder).endswith("no config.json of an encoder; this one wants somebody/encoder")
    monkeypatch.setitem(sys.modules, "comet", None)
    assert "envs/comet.yaml" in refused(folder, save_encoder(tmp_path / "encoder"))


# --- with COMET ---


def sample_texts() -> list[dict[str, str]]:
    """Texts of all lengths, some longer than the encoder reads, alone or as one; an empty one among them."""
    chooser = random.Random(22)

    def text(length: int) -> str:
        return "".join(" " if chooser.random() < 0.15 else chooser.choice(LETTERS[1:]) for _ in range(length)).strip()

    lengths = [1, 2, 4, 7, 12, 18, 22, 26, 30, 38, 48, 58, 70, 90] * 2
    samples = [{name: text(round(n * chooser.uniform(0.7, 1.2))) for name in ("src", "mt", "ref")} for n in lengths]
    return [*samples, {"src": "an", "mt": "", "ref": "th"}]


def make_checkpoints(folder: Path, encoder: Path, order: dict[str, Any]) -> dict[str, Any]:
    """In COMET's environment: makes the models, saves them as Lightning does, and lets COMET load them and score.

    One pair at a time, with all references and with none.
    """
    import pytorch_lightning
    import torch
    import yaml
    from comet.models import load_from_checkpoint, str2model

    found = {}
    for name, (identifier, settings, published, _) in order["models"].items():
        torch.manual_seed(7)
        model = str2model[identifier](**settings, pretrained_model=str(encoder), load_pretrained_weights=False)
        with torch.no_grad():
            for place, parameter in model.named_parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 1 if "embeddings" in place else 1.5 / parameter.shape[1] ** 0.5)
                elif "LayerNorm.weight" not in place and "gamma" not in place:
                    parameter.normal_(0, 0.5)
            if hasattr(model, "hidden2tag"):
                model.hidden2tag.bias[0] = 2.5  # not every word is an error
        model.eval()
        place = folder / name / "checkpoints" / "model.ckpt"
        place.parent.mkdir(parents=True)
        trainer = pytorch_lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.strategy.connect(model)
        trainer.save_checkpoint(place, weights_only=True)
        hparams = {**settings, "class_identifier": identifier, "layer_transformation": published}
        (folder / name / "hparams.yaml").write_text(yaml.safe_dump(hparams))

        loaded = load_from_checkpoint(str(place), local_files_only=True)
        quietly = {"batch_size": 1, "gpus": 0, "num_workers": 0, "progress_bar": False}
        found[f"{name} with references"] = loaded.predict(order["samples"], **quietly).scores
        if not loaded.requires_references():
            bare = [{"src": sample["src"], "mt": sample["mt"]} for sample in order["samples"]]
            found[f"{name} without"] = loaded.predict(bare, **quietly).scores
        if published == "sparsemax_patch":
            found[f"{name} unpatched"] = model.predict(order["samples"], **quietly).scores

        # Nobody needs a name on the Hub: the encoder is said otherwise.
        checkpoint = torch.load(place, weights_only=True)
        checkpoint["hyper_parameters"]["pretrained_model"] = "nobody/encoder"
        torch.save(checkpoint, place)
    return found


def score_pairs(folder: Path, encoder: Path, order: dict[str, Any]) -> dict[str, Any]:
    """In COMET's environment: what our scorer says, from a fetched checkpoint and encoder and from folders."""
    import torch

    from corpusmith.comet import Comet
    from corpusmith.errors import InputError
    from corpusmith.models import folder_of, read_receipt
    from corpusmith.pairs import Pair
    from corpusmith.scoring_worker import Scorer

    fetched = {name: folder_of(read_receipt(path)) for name, path in order["receipts"].items()}
    encoder = fetched["encoder"]

    def pairs(samples: list[dict[str, str]]) -> list[Pair]:
        return [Pair(sample["src"], sample["mt"], sample.get("ref")) for sample in samples]

    def load(name: str, **settings: Any) -> Comet:
        return Comet(fetched.get(name, folder / name), encoder, **settings)

    def size(inputs: Any) -> int:
        if isinstance(inputs, torch.Tensor):
            return inputs.numel()
        parts = inputs.values() if isinstance(inputs, dict) else inputs
        return max(map(size, parts), default=0) if isinstance(inputs, dict | list | tuple) else 0

    found: dict[str, Any] = {"scores": {}, "batches": {}, "edges": {}, "errors": {}}
    for name in order["models"]:
        for budget in order["budgets"]:
            scorer: Scorer = load(name, tokens_per_batch=budget)
            for kind, samples in order["rounds"].items():
                if kind != "with references" and name in order["want_references"]:
                    continue
                prepared = scorer.prepare(pairs(samples))
                said = sorted(one for batch in scorer.score_batches(prepared) for one in batch)
                found["scores"][f"{name} {kind} {budget}"] = said
                tokens = [(len(batch.places), size([batch.inputs])) for batch in prepared.batches]
                found["batches"][f"{name} {kind} {budget}"] = tokens
        for dtype in ("bfloat16", "float16", "float64"):
            found["scores"][f"{name} {dtype}"] = load(name, dtype=dtype).score(pairs(order["samples"]))
        found["edges"][name] = load(name).score(pairs(order["edges"]))
    found["empty"] = load("kiwi").score([])

    def refused(name: str, scored: list[Pair] | None = None) -> str:
        try:
            Comet(folder / name, broken or encoder).score(scored or [])
        except InputError as error:
            return str(error)
        return ""

    broken: str | None = None
    bare = [Pair("an", "an"), *pairs(order["samples"])]
    found["errors"]["no reference"] = refused("regression", bare)
    for broken in order["broken encoders"]:
        found["errors"][Path(broken).name] = refused("kiwi")
    broken = None
    place = folder / "kiwi" / "checkpoints" / "model.ckpt"
    whole = torch.load(place, weights_only=True)
    torch.save(whole | {"state_dict": dict(list(whole["state_dict"].items())[1:])}, place)
    found["errors"]["lacking"] = refused("kiwi")
    torch.save({"state_dict": whole["state_dict"]}, place)
    found["errors"]["settings in hparams.yaml alone"] = refused("kiwi")
    (folder / "kiwi" / "hparams.yaml").write_text("class_identifier: new_metric\n")
    found["errors"]["unknown class"] = refused("kiwi")
    return found


@pytest.fixture(scope="module")
def environment() -> Path:
    """The environment of COMET; made anew where its file has changed."""
    need_control()
    prefix, file = ROOT / ".venv-comet-cpu", ROOT / "envs" / "comet-cpu.yaml"
    create = [CONTROL / "python", ROOT / "envs" / "bin" / "create_environment.py", "--file", file, "--prefix", prefix]
    with file.open() as held:
        # Another process of the tests may want it, too.
        fcntl.flock(held, fcntl.LOCK_EX)
        if subprocess.run(create, capture_output=True).returncode != 0:
            subprocess.run(["rm", "-rf", prefix], check=True)
            done = subprocess.run(create, capture_output=True, text=True)
            if done.returncode != 0:
                pytest.skip(f"the environment of envs/comet-cpu.yaml cannot be made: {done.stderr[-1000:]}")
    return prefix


def run_there(
    environment: Path, function: Callable[..., Any], folder: Path, order: dict[str, Any], **more: str
) -> tuple[Any, str]:
    """Runs a function of this file in COMET's environment: what it returns, and what it printed."""
    read = "json.loads((folder / 'order.json').read_text())"
    call = f"{function.__name__}(folder / 'models', folder / 'encoder', {read})"
    lines = [
        "from __future__ import annotations",
        "import json, sys",
        "from pathlib import Path",
        "from typing import Any",
        f"sys.path.insert(0, {str(ROOT / 'scripts')!r})",
        inspect.getsource(function),
        "folder = Path(sys.argv[1])",
        f"(folder / 'found.json').write_text(json.dumps({call}))",
    ]
    (folder / "order.json").write_text(json.dumps(order))
    (folder / "home").mkdir(exist_ok=True)
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "HF_"))}
    # Threads that wait for each other are slow where others compute, too.
    settings |= {"HF_HUB_OFFLINE": "1", "HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run(
        [environment / "bin" / "python", "-c", "\n".join(lines), folder],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads((folder / "found.json").read_text()), done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder; the models will be beside it."""
    folder = tmp_path_factory.mktemp("comet")
    save_encoder(folder / "encoder")
    return folder


@pytest.fixture(scope="module")
def by_comet(environment: Path, place: Path) -> dict[str, list[float]]:
    """What COMET itself says, by model and by whether it is shown references."""
    order = {"models": MODELS, "samples": sample_texts()}
    return run_there(environment, make_checkpoints, place, order)[0]


def edges() -> list[dict[str, str]]:
    """Answers at the limits: of a text alone 59 letters fit, as one with a source of 20 only 38."""
    answers = ["b" * 58 + "c", "b" * 58 + "d", "b" * 59 + "c", "b" * 59 + "d", "b" * 37 + "c", "b" * 38 + "c"]
    return [{"src": "a" * 20, "mt": answer} | {"ref": "th"} for answer in answers]


@pytest.fixture(scope="module")
def by_us(by_comet: dict[str, Any], environment: Path, place: Path) -> dict[str, Any]:
    """What our scorer says, and what it printed; one checkpoint and the encoder come from a Hub."""
    receipts = {}
    with HubServer() as hub:
        for name, folder in (("encoder", place / "encoder"), ("regression", place / "models" / "regression")):
            hub.commit(f"someone/{name}", folder)
            receipts[name] = str(place / f"{name}.json")
            command = [sys.executable, ROOT / "scripts" / "fetch_model.py", "--name", name, "--receipt", receipts[name]]
            command += ["--repo", f"someone/{name}", *["--tokenizer-only"] * (name == "encoder")]
            subprocess.run(command, env=hub.environment(place / "hub"), check=True, capture_output=True)
    samples = sample_texts()
    bare = [{"src": sample["src"], "mt": sample["mt"]} for sample in samples]
    mixed = [sample if number % 3 else bare[number] for number, sample in enumerate(samples)]
    wide = save_encoder(place / "wide", width=64)
    large = save_encoder(place / "large", pieces=[*PIECES, "bb"])
    (place / "bare").mkdir()
    (place / "bare" / "config.json").write_bytes((place / "encoder" / "config.json").read_bytes())
    order = {
        "models": list(MODELS), "samples": samples, "budgets": BUDGETS, "want_references": WANT_REFERENCES,
        "rounds": {"with references": samples, "without": bare, "mixed": mixed}, "edges": edges(),
        "receipts": receipts, "broken encoders": [str(folder) for folder in (wide, large, place / "bare")],
    }  # fmt: skip
    found, printed = run_there(environment, score_pairs, place, order, HF_HOME=str(place / "hub"))
    return found | {"printed": printed}


def scores(said: list[list[Any]]) -> torch.Tensor:
    """The scores of pairs, given in their order."""
    assert [place for place, *_ in said] == list(range(len(said)))
    assert all(error is None for *_, error in said)
    return torch.tensor([score for _, score, *_ in said], dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_scores_are_comets_own(name: str, by_comet: dict[str, list[float]], by_us: dict[str, Any]) -> None:
    for kind in ("with references", "without", "mixed"):
        if kind != "with references" and name in WANT_REFERENCES:
            continue
        with_them = by_comet[f"{name} with references"]
        without = by_comet.get(f"{name} without", [])
        expected = {"with references": with_them, "without": without}.get(kind) or [
            with_them[number] if number % 3 else score for number, score in enumerate(without)
        ]
        # Spread: equal scores would prove nothing.
        assert torch.tensor(expected).std() > 0.02
        for budget in BUDGETS:
            found = scores(by_us["scores"][f"{name} {kind} {budget}"])
            assert (found - torch.tensor(expected)).abs().max() < 1e-5
    if "ref" in MODELS[name][3] and name not in WANT_REFERENCES:
        assert (torch.tensor(with_them) - torch.tensor(without)).abs().max() > 0.02


@pytest.mark.slow
def test_models_that_were_meant_for_sparsemax_and_never_had_it_get_softmax(by_comet: dict[str, list[float]]) -> None:
    for name in ("kiwi", "xcomet"):
        patched, unpatched = by_comet[f"{name} with references"], by_comet[f"{name} unpatched"]
        assert (torch.tensor(patched) - torch.tensor(unpatched)).abs().max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_other_number_formats_are_near(name: str, by_comet: dict[str, list[float]], by_us: dict[str, Any]) -> None:
    expected = torch.tensor(by_comet[f"{name} with references"], dtype=torch.float64)
    spread = expected.std().item()
    for dtype, least, most in (("bfloat16", 1e-4, spread / 2), ("float16", 1e-5, spread / 10), ("float64", 0, 1e-5)):
        difference = (scores(by_us["scores"][f"{name} {dtype}"]) - expected).abs().max().item()
        # As near as float32 it would be float32.
        assert least < difference < most, dtype


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_batches_keep_to_their_budget(name: str, by_us: dict[str, Any]) -> None:
    alone, some, large = (by_us["batches"][f"{name} with references {budget}"] for budget in BUDGETS)
    assert [pairs for pairs, _ in alone] == [1] * len(sample_texts())
    assert all(tokens <= BUDGETS[1] for _, tokens in some)
    assert max(pairs for pairs, _ in some) > 4
    assert len(large) == 1
    assert sum(pairs for pairs, _ in some) == large[0][0] == len(sample_texts())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_what_the_encoder_does_not_read_to_the_end_is_marked(name: str, place: Path, by_us: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_file(str(place / "encoder" / "tokenizer.json"))
    expected = []
    for sample in sample_texts():
        lengths = [len(tokenizer.encode(sample[segment]).ids) for segment in MODELS[name][3]]
        cut = any(length > LONGEST_TEXT for length in lengths)
        # <s> mt </s></s> src </s></s> ref </s>
        whole = sum(min(length, LONGEST_TEXT) - 2 for length in lengths) + 2 * len(lengths)
        expected.append(cut or (name in AS_ONE and whole > LONGEST))
    assert 3 < sum(expected) < len(expected) - 3
    for budget in BUDGETS:
        said = by_us["scores"][f"{name} with references {budget}"]
        assert [truncated for _, _, truncated, _ in said] == expected

    said = by_us["edges"][name]
    found, marked = scores(said), [truncated for _, _, truncated, _ in said]
    if name not in AS_ONE:
        assert marked == [False, False, True, True, False, False]
        assert found[0] != found[1]
        assert found[2] == found[3]
    else:
        # A reference of one token and a separator of two are read, too.
        room = 0 if "ref" not in MODELS[name][3] else 4
        assert marked == [True] * 4 + [room > 0, True]


@pytest.mark.slow
def test_what_does_not_fit_together_is_one_line(by_us: dict[str, Any]) -> None:
    errors = by_us["errors"]
    assert "compares with references, and 1 of 30 pairs have none" in errors["no reference"]
    assert "references: true" in errors["no reference"]
    assert "Unbabel/wmt22-cometkiwi-da" in errors["no reference"]
    assert "has another shape than the model makes with the encoder in" in errors["wide"]
    assert errors["wide"].endswith("/wide; its encoder is nobody/encoder")
    assert f"{len(PIECES)} tokens do not belong to the tokenizer of {len(PIECES) + 1}" in errors["large"]
    assert "COMET cannot make this model with the encoder in" in errors["bare"]
    assert "the weights lack 1 tensors of the model, such as encoder.model.embeddings" in errors["lacking"]
    assert "class_identifier is 'new_metric'; COMET has ranking_metric, " in errors["unknown class"]
    assert all("\n" not in error for error in errors.values())


@pytest.mark.slow
def test_settings_may_lie_in_hparams_yaml_alone_and_no_pairs_are_no_scores(by_us: dict[str, Any]) -> None:
    assert by_us["errors"]["settings in hparams.yaml alone"] == ""
    assert by_us["empty"] == []


@pytest.mark.slow
def test_the_log_is_quiet(by_us: dict[str, Any]) -> None:
    assert by_us["printed"] == ""


@pytest.mark.slow
def test_the_program_scores_translations_against_references(
    by_comet: dict[str, list[float]], by_us: dict[str, Any], environment: Path, place: Path, tmp_path: Path
) -> None:
    samples = sample_texts()[:6]
    requests = [
        asking(sample["src"], 1, name=str(number), reference=sample["ref"]) for number, sample in enumerate(samples)
    ]
    completions = [answers(row, [sample["mt"]])[0] for row, sample in zip(requests, samples, strict=True)]
    write_table(tmp_path / "requests.parquet", REQUESTS, requests)
    write_table(tmp_path / "completions.parquet", COMPLETIONS, completions)
    # A checkpoint from a folder: that from the Hub is in a cache of its own.
    receipt = receipt_of(place / "models" / "regression", tmp_path / "regression.json")
    encoder = tmp_path / "encoder.json"
    write_receipt(encoder, describe_folder(place / "encoder", "encoder", "local", tokenizer_only=True))
    flags = ["--dtype", "float32", "--tokens-per-batch", "200"]
    interpreter = environment / "bin" / "python"
    done = run_scorer("score_comet.py", tmp_path, receipt, encoder, *flags, interpreter=interpreter)
    assert done.returncode == 0, done.stderr
    found = [row["score"] for row in read_rows(tmp_path / "scores.parquet", SCORES)]
    assert found == pytest.approx(by_comet["regression with references"][:6], abs=1e-5)
    done = run_scorer("score_comet.py", tmp_path, receipt, encoder, "--no-references", interpreter=interpreter)
    assert done.returncode == 1
    assert "this model compares with references, and 6 of 6 pairs have none" in done.stderr.splitlines()[-1]
