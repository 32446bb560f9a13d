"""train_sft.py and train_dpo.py: what they make of a base and rows, what they refuse, and that it is the same again."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from corpusmith import gpu_claims
from corpusmith.errors import InputError
from corpusmith.models import folder_of, read_receipt
from corpusmith.tuning import adaptation, arguments, record
from corpusmith.tuning.arguments import check_arguments, resolve_arguments, trainer_fields
from corpusmith.tuning.settings import RESERVED
from tuning_runs import chat, conversations, losses, make_base, preferences, tune, weights, write_lines

# Of two layers 32 wide, with two heads of 16 and 64 in the middle: four projections of attention, three behind it.
LORA_PARAMETERS = 2 * 8 * (4 * (32 + 32) + 3 * (32 + 64))
FAST = ("--arguments", '{"per_device_train_batch_size": 4, "num_train_epochs": 1, "learning_rate": 0.01}')


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bases") / "small")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("rows") / "rows.jsonl", conversations(12))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lines(tmp_path_factory.mktemp("rows") / "pairs.jsonl", preferences(12))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, base: Path, rows: Path) -> Path:
    folder = tmp_path_factory.mktemp("tuning") / "student"
    tune("sft", folder, base, rows, *FAST)
    return folder


def base_model(base: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(base.parent / "model", dtype=torch.float32)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(3, 40)[None]).logits


# --- what comes out ---


def test_an_sft_leaves_an_adapter_that_loads_on_its_base_and_changes_it(base: Path, tuned: Path) -> None:
    plain = logits(base_model(base))
    model = PeftModel.from_pretrained(base_model(base), tuned / "model")
    assert not torch.allclose(logits(model), plain, atol=1e-3)
    with model.disable_adapter():
        assert torch.equal(logits(model), plain)
    tokenizer = AutoTokenizer.from_pretrained(tuned / "model")
    assert tokenizer.apply_chat_template(chat("a"), tokenize=False) == "<|im_start|>user\na<|im_end|>\n"


def test_its_receipt_and_its_record_say_what_it_is(base: Path, tuned: Path) -> None:
    receipt, found = read_receipt(tuned / "receipt.json"), json.loads((tuned / "training.json").read_text())
    assert folder_of(receipt) == tuned / "model"
    assert (receipt.name, receipt.origin, receipt.parameters) == ("student", "built", LORA_PARAMETERS)
    total = sum(parameter.numel() for parameter in base_model(base).parameters())
    assert found | {"seconds": 0, "peak_memory_mb": 0, "arguments": {}, "fingerprint": ""} == {
        "name": "student",
        "method": "sft",
        "adaptation": "lora",
        "identity": receipt.identity,
        "base": "small",
        "base_identity": read_receipt(base).identity,
        "base_folder_or_repo": Path(found["base_folder_or_repo"]).as_posix(),
        "adapter_of": None,
        "steps": 3,
        "epochs": 1.0,
        "seconds": 0,
        "parameters": total + LORA_PARAMETERS,
        "trainable_parameters": LORA_PARAMETERS,
        "peak_memory_mb": 0,
        "rows": 12,
        "truncated_rows": 0,
        "dropped_rows": 0,
        "longest_row": 19,
        "unlearnt_turns": 0,
        "max_length": 128,
        "device": "cpu",
        "gpus": 1,
        "dtype": "float32",
        "quantization": "none",
        "seed": 1,
        "lora": {"r": 8, "alpha": 16, "dropout": 0.05, "targets": None},
        "prompt": None,
        "arguments": {},
        "fingerprint": "",
    }
    assert (tuned / found["base_folder_or_repo"]).resolve() == base.parent / "model"
    assert found["arguments"]["learning_rate"] == 0.01
    assert 0 < found["seconds"] < 600
    assert 100 < found["peak_memory_mb"] < 10_000


def test_every_step_has_its_losses_in_the_table_and_there_is_a_picture(tuned: Path) -> None:
    found = losses(tuned)
    assert [row["step"] for row in found] == ["1", "2", "3"]
    assert [float(row["epoch"]) for row in found] == pytest.approx([1 / 3, 2 / 3, 1])
    # A random model is about as good as a guess among its tokens.
    tokens = len(AutoTokenizer.from_pretrained(tuned / "model"))
    assert all(abs(float(row["loss"]) - math.log(tokens)) < 1 for row in found)
    assert (tuned / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tuned.iterdir()) == [
        "losses.png", "losses.tsv", "model", "receipt.json", "training.json",
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    tmp_path: Path, base: Path, rows: Path, tuned: Path
) -> None:
    again = tmp_path / "student"
    tune("sft", again, base, rows, *FAST)
    for name in ("model/adapter_model.safetensors", "model/adapter_config.json", "losses.tsv", "losses.png"):
        assert (again / name).read_bytes() == (tuned / name).read_bytes(), name
    assert read_receipt(again / "receipt.json").identity == read_receipt(tuned / "receipt.json").identity
    tune("sft", tmp_path / "other", base, rows, *FAST, "--seed", "2")
    assert weights(tmp_path / "other") != weights(tuned)


def test_an_adapter_says_nothing_of_the_machine_it_was_made_on(base: Path, tuned: Path) -> None:
    settings = (tuned / "model" / "adapter_config.json").read_text()
    assert json.loads(settings)["base_model_name_or_path"] == "small"
    targets = json.loads(settings)["target_modules"]
    # A set of PEFT's, whose order is another in each run of Python.
    assert targets == sorted(targets)
    assert {name.rpartition(".")[2] for name in targets} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    assert str(base.parent) not in settings


def test_rows_of_other_columns_are_learnt_as_their_prompt_asks_them(tmp_path: Path, base: Path) -> None:
    """The same training as on conversations that say the same."""
    pairs = [{"source": f"{number} and 3", "target": str(number + 3)} for number in range(12)]
    (tmp_path / "prompt.txt").write_text("Add {{ text }}")
    worded = tune(
        "sft", tmp_path / "worded", base, write_lines(tmp_path / "pairs.jsonl", pairs),
        *("--row-prompt", str(tmp_path / "prompt.txt"), "--row-completion", "target"),
        *("--row-columns", '{"text": "source"}'),
    )  # fmt: skip
    said = tune("sft", tmp_path / "said", base, write_lines(tmp_path / "said.jsonl", conversations(12)))
    assert worded["rows"] == said["rows"] == 12
    assert weights(tmp_path / "worded") == weights(tmp_path / "said")
    with pytest.raises(InputError, match="--row-prompt and --row-completion go together"):
        tune("sft", tmp_path / "half", base, tmp_path / "pairs.jsonl", "--row-completion", "target")


@pytest.mark.parametrize("more", [(), ("--prompt-text", "Add 3")])
def test_a_prompt_is_so_many_vectors_before_the_input(
    tmp_path: Path, base: Path, rows: Path, more: tuple[str, ...]
) -> None:
    folder = tmp_path / "prompted"
    found = tune("sft", folder, base, rows, *FAST, "--adaptation", "prompt", "--prompt-tokens", "5", *more)
    assert found["trainable_parameters"] == 5 * 32
    assert found["prompt"] == {"tokens": 5, "text": more[1] if more else None}
    (trained,) = load_file(folder / "model" / "adapter_model.safetensors").values()
    assert trained.shape == (5, 32)
    PeftModel.from_pretrained(base_model(base), folder / "model")
    with pytest.raises(InputError, match="a prompt cannot be gone on with"):
        tune("sft", tmp_path / "after", base, rows, "--adaptation", "prompt", "--adapter", str(folder))


def test_a_whole_model_is_tuned_and_gone_on_with(tmp_path: Path, base: Path, rows: Path, pairs: Path) -> None:
    folder = tmp_path / "whole"
    found = tune("sft", folder, base, rows, *FAST, "--adaptation", "full")
    assert found["trainable_parameters"] == found["parameters"]
    model = AutoModelForCausalLM.from_pretrained(folder_of(read_receipt(folder / "receipt.json")))
    assert not torch.allclose(logits(model), logits(base_model(base)), atol=1e-3)
    after = tune("dpo", tmp_path / "after", base, pairs, *FAST, "--adaptation", "full", "--adapter", str(folder))
    assert (after["adapter_of"], after["base"]) == ("whole", "small")
    # Its reference is what it begins as.
    assert float(losses(tmp_path / "after")[0]["loss"]) == pytest.approx(math.log(2), abs=1e-6)


# --- DPO ---


def test_dpo_begins_at_its_reference_and_learns_to_tell_answers_apart(tmp_path: Path, base: Path, pairs: Path) -> None:
    folder = tmp_path / "preferring"
    flags = ("--arguments", '{"per_device_train_batch_size": 4, "num_train_epochs": 10, "learning_rate": 0.01}')
    found = tune("dpo", folder, base, pairs, *flags)
    table = losses(folder)
    assert float(table[0]["loss"]) == pytest.approx(math.log(2), abs=1e-6)
    assert float(table[-1]["rewards/margins"]) > 0.1
    assert float(table[-1]["loss"]) < 0.6
    assert (found["method"], found["steps"], found["adapter_of"]) == ("dpo", 30, None)


def test_dpo_on_an_sft_goes_on_with_its_adapter_which_is_the_reference_too(
    tmp_path: Path, base: Path, pairs: Path, tuned: Path
) -> None:
    folder = tmp_path / "after"
    found = tune("dpo", folder, base, pairs, *FAST, "--adapter", str(tuned / "receipt.json"))
    # The adapter is far from the base already: were the base the reference, the first loss would differ from log 2.
    assert float(losses(folder)[0]["loss"]) == pytest.approx(math.log(2), abs=1e-6)
    assert found["adapter_of"] == "student"
    assert found["lora"] == {"r": 8, "alpha": 16, "dropout": 0.05, "targets": None}
    assert found["trainable_parameters"] == LORA_PARAMETERS
    # One adapter, on the base alone: a copy that was the reference is not in it.
    before, after = (load_file(path / "model" / "adapter_model.safetensors") for path in (tuned, folder))
    assert {name: value.shape for name, value in after.items()} == {name: value.shape for name, value in before.items()}
    assert all(0 < (after[name] - before[name]).abs().max() < 0.1 for name in before)
    assert not (folder / "model" / "ref").exists()
    PeftModel.from_pretrained(base_model(base), folder / "model")


# --- what is refused ---


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, pairs: Path, tuned: Path) -> None:
    other = make_base(tmp_path / "other", seed=1)
    with pytest.raises(InputError) as caught:
        tune("dpo", tmp_path / "after", other, pairs, "--adapter", str(tuned / "receipt.json"))
    assert "receipt.json: was made for small (sha256:" in str(caught.value)
    assert "and the base is other (sha256:" in str(caught.value)
    assert not (tmp_path / "after").exists()


def test_an_adapter_of_another_kind_and_one_of_nobody_knows_what_are_refused(
    tmp_path: Path, base: Path, rows: Path, tuned: Path
) -> None:
    with pytest.raises(InputError, match="its adaptation is lora, and this tuning's full"):
        tune("sft", tmp_path / "a", base, rows, "--adaptation", "full", "--adapter", str(tuned / "model"))
    with pytest.raises(InputError, match=r"there is no training\.json beside it"):
        tune("sft", tmp_path / "a", base, rows, "--adapter", str(base))


def test_conversations_for_a_model_without_a_chat_template_are_refused(tmp_path: Path, rows: Path) -> None:
    plain = make_base(tmp_path / "plain", template=False)
    with pytest.raises(InputError, match=r"rows\.jsonl: row 1: is a conversation, and model plain has no chat"):
        tune("sft", tmp_path / "a", plain, rows)
    texts = write_lines(tmp_path / "texts.jsonl", [{"prompt": "3 + 4 = ", "completion": "7"}] * 4)
    assert tune("sft", tmp_path / "a", plain, texts, *FAST)["rows"] == 4


def test_four_bits_and_more_gpus_than_there_are_are_refused_before_anything_is_read(tmp_path: Path, base: Path) -> None:
    nowhere = tmp_path / "no-such.jsonl"
    with pytest.raises(InputError, match="--quantization 4bit needs a GPU"):
        tune("sft", tmp_path / "a", base, nowhere, "--quantization", "4bit")
    with pytest.raises(InputError, match=r"--gpus 1000 asks for 1000 GPUs, this job sees \d+;"):
        tune("sft", tmp_path / "a", base, nowhere, "--device", "cuda", "--gpus", "1000")
    with pytest.raises(InputError, match="weights in 4 bits cannot be trained"):
        tune("sft", tmp_path / "a", base, nowhere, "--adaptation", "full", "--preset", "gpu-16gb")


def test_a_training_sees_its_own_gpus_alone(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer would take all that it sees, and rows for each."""
    (tmp_path / "bin").mkdir()
    listing = "".join(f"echo '{number}, GPU-{number}'\n" for number in range(8))
    (tmp_path / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{listing}")
    (tmp_path / "bin" / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(gpu_claims, "FOLDER", tmp_path / "claims")
    seen: list[str] = []
    monkeypatch.setattr(adaptation, "check_devices", lambda *_: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    with pytest.raises(InputError, match="no-such"):
        tune("sft", tmp_path / "a", base, tmp_path / "no-such.jsonl", "--device", "cuda", "--gpus", "2")
    (found,) = seen
    assert len(set(found.split(",")) & {f"GPU-{number}" for number in range(8)}) == 2


def test_rows_to_evaluate_on_that_are_not_there_are_said_and_missed_by_no_one(
    tmp_path: Path, base: Path, rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The split of a release in which there is no row has no file."""
    with caplog.at_level("WARNING"):
        found = tune("sft", tmp_path / "a", base, rows, *FAST, "--evaluation-data", str(tmp_path / "test-*.parquet"))
    assert found["steps"] == 3
    assert "there is no row in" in caplog.text


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path, base: Path, rows: Path) -> None:
    wild = '{"learning_rate": 1e30, "max_grad_norm": 0, "num_train_epochs": 4, "per_device_train_batch_size": 4}'
    with pytest.raises(InputError, match=r"the loss of step \d+ is (nan|inf): the training goes astray"):
        tune("sft", tmp_path / "a", base, rows, "--arguments", wild)
    assert not (tmp_path / "a" / "model").exists()


def test_a_value_that_the_trainer_refuses_is_one_line(tmp_path: Path, base: Path, rows: Path) -> None:
    with pytest.raises(InputError, match=r"the trainer does not take its arguments: .*no-such-schedule"):
        tune("sft", tmp_path / "a", base, rows, "--arguments", '{"lr_scheduler_type": "no-such-schedule"}')


# --- rows that are too long; rows put together ---


def test_rows_that_are_cut_or_left_out_are_in_the_record_and_in_the_log(
    tmp_path: Path, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contents = [("ab", "c"), ("ab", "c" * 60), ("a" * 60, "c")]
    long = write_lines(tmp_path / "long.jsonl", [{"messages": chat(*pair)} for pair in contents] * 4)
    with caplog.at_level("WARNING", logger="corpusmith"):
        found = tune("sft", tmp_path / "a", base, long, *FAST, "--max-length", "40")
    assert (found["rows"], found["truncated_rows"], found["dropped_rows"]) == (12, 4, 4)
    # Three markers, a role and two line breaks around each of two texts but for the first marker: 11, and 61 letters.
    assert found["longest_row"] == 72
    assert found["steps"] == 2
    assert "4 of 12 rows (33.3%) are longer than max_length 40 and are cut there" in caplog.text
    assert "4 of 12 rows are left out: their prompts alone fill max_length 40" in caplog.text


def test_short_rows_are_packed_into_long_ones_where_that_is_asked(tmp_path: Path, base: Path, rows: Path) -> None:
    packed = '{"packing": true, "packing_strategy": "wrapped", "per_device_train_batch_size": 1, "num_train_epochs": 1}'
    found = tune("sft", tmp_path / "a", base, rows, "--arguments", packed, "--max-length", "64")
    assert found["rows"] == 12
    # 12 rows of at most 19 tokens fill three or four sequences of 64.
    assert found["steps"] in (3, 4)


def test_the_loss_on_other_rows_is_in_the_table_after_each_epoch(tmp_path: Path, base: Path, rows: Path) -> None:
    more = ("--evaluation-data", str(rows))
    tune("sft", tmp_path / "a", base, rows, *FAST, *more)
    assert [bool(row["eval_loss"]) for row in losses(tmp_path / "a")] == [False, False, True]


def test_rows_are_evaluated_on_where_the_last_step_is_within_an_epoch(tmp_path: Path, base: Path, rows: Path) -> None:
    short = ("--arguments", '{"per_device_train_batch_size": 4, "max_steps": 2}')
    found = tune("sft", tmp_path / "a", base, rows, *short, "--evaluation-data", str(rows))
    assert found["steps"] == 2
    assert [bool(row["eval_loss"]) for row in losses(tmp_path / "a")] == [False, True]


# --- arguments ---


def test_defaults_are_those_of_the_method_a_preset_counts_more_and_what_is_given_most() -> None:
    sft, dpo = (resolve_arguments(method, "lora", "cuda", "none", {}) for method in ("sft", "dpo"))
    assert [(found["num_train_epochs"], found["learning_rate"], found["warmup_steps"]) for found in (sft, dpo)] == [
        (3, 2e-4, 0.03),
        (1, 5e-5, 0.1),
    ]
    assert sft["lr_scheduler_type"] == dpo["lr_scheduler_type"] == "cosine"
    for preset in ("gpu-16gb", "gpu-40gb"):
        found = resolve_arguments("sft", "lora", "cuda", preset, {})
        assert found["per_device_train_batch_size"] * found["gradient_accumulation_steps"] == 16
        assert found["gradient_checkpointing"]
    given = {"per_device_train_batch_size": 2, "optim": "adamw_torch", "max_grad_norm": 0.3}
    found = resolve_arguments("sft", "lora", "cuda", "gpu-16gb", given)
    assert given.items() <= found.items()
    assert found["gradient_accumulation_steps"] == 16


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_what_is_set_for_a_trainer_are_arguments_that_it_has(method: str) -> None:
    for preset in arguments._PRESETS:
        for kind in ("lora", "full"):
            check_arguments(method, resolve_arguments(method, kind, "cuda", preset, {}))
    assert not set(RESERVED) & set(trainer_fields(method))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learning_rat": 1.0}, r"learning_rat: SFTConfig has no such one; did you mean learning_rate"),
        ({"zzzzzz": 1}, r"zzzzzz: SFTConfig has no such one; allowed: .*, adam_beta1, "),
        ({"beta": 0.1}, r"beta: SFTConfig has no such one"),
        (
            {"learning_rate": "2e-4"},
            r"learning_rate: '2e-4' is not of the kind float; a number has no quotes",
        ),
        ({"num_train_epochs": "many"}, r"num_train_epochs: 'many' is not of the kind float$"),
        ({"packing": 1}, r"packing: 1 is not of the kind bool"),
        ({"save_steps": None}, r"save_steps: None is not of the kind"),
        ({"seed": 3}, r"seed cannot be given: the key seed says it"),
        ({"hub_token": "x"}, r"hub_token cannot be given: secrets are never in a config"),
    ],
)
def test_an_argument_that_the_trainer_does_not_know_or_take_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=rf"^trainer argument {said}"):
        check_arguments("sft", given)


def test_evaluation_without_rows_for_it_is_refused() -> None:
    with pytest.raises(InputError, match="eval_strategy: there are no rows to evaluate on"):
        resolve_arguments("sft", "lora", "cpu", "none", {"eval_strategy": "steps"})


# --- the table and the picture ---


def test_what_is_logged_of_one_step_at_several_times_is_one_row(tmp_path: Path) -> None:
    history = [
        {"step": 2, "epoch": 0.5, "loss": 2.0, "grad_norm": 1.0, "learning_rate": 0.1, "num_tokens": 9},
        {"step": 4, "epoch": 1.0, "loss": 1.0, "grad_norm": 0.5, "learning_rate": 0.0, "mean_token_accuracy": 0.25},
        {"step": 4, "epoch": 1.0, "eval_loss": 1.5, "eval_runtime": 3.0},
        {"step": 4, "epoch": 1.0, "train_runtime": 8.0, "train_loss": 1.5},
    ]
    record.write_losses(tmp_path / "losses.tsv", record.loss_rows(history, "sft"), "sft")
    assert (tmp_path / "losses.tsv").read_text() == (
        "step\tepoch\tloss\tlearning_rate\tgrad_norm\tmean_token_accuracy\teval_loss\n"
        "2\t0.5\t2\t0.1\t1\t\t\n4\t1\t1\t0\t0.5\t0.25\t1.5\n"
    )


def test_many_points_are_drawn_as_means() -> None:
    points = [(float(step), float(step % 2)) for step in range(1, 9)]
    assert record._means(points, 1) == points
    assert record._means(points, 4) == [(4.0, 0.5), (8.0, 0.5)]
    assert record._means(points[:5], 4) == [(4.0, 0.5), (5.0, 1.0)]
