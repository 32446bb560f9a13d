"""Reward models in batches against the plain model at batch 1, called as their model cards do, with random weights."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DebertaV2Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from corpusmith.errors import InputError
from corpusmith.pairs import Pair, PairQuestion
from corpusmith.reward import RewardModel
from corpusmith.scoring_worker import ScoringWorker
from corpusmith.table_files import read_rows, write_table
from corpusmith.tables import COMPLETIONS, REQUESTS, SCORES
from scoring_tables import answers, asking, receipt_of, run_scorer

# First and last character of a run of letters.
SCRIPTS = [("a", "z"), ("а", "я"), ("א", "ת"), ("अ", "ह"), ("가", "궏"), ("一", "侏"), ("😀", "😏")]
SPECIAL = ["<|begin|>", "<|end|>", "<|pad|>", "<|head|>", "<|/head|>"]
# As Llama 3 has it: contents are trimmed.
LLAMA = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{{ '<|head|>' + message['role'] + '<|/head|>\n\n' + message['content'] | trim + '<|end|>' }}{% endfor %}"
)
# As Gemma has it: no system turns, and a line behind all.
GEMMA = LLAMA.replace("<|end|>'", "<|end|>\n'").replace(
    "{{ '<|head|>'",
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ '<|head|>'",
)
# Contents as they are, and the last one also at the head.
TWICE = LLAMA.replace("'<|begin|>'", "'<|begin|>[' + messages[-1]['content'] + ']'").replace(" | trim", "")


class Case(NamedTuple):
    """A kind of model and how it is asked. padding: the configured padding token."""

    architecture: str
    form: Any
    template: str | None = None
    padding: str | None = "<|pad|>"


CASES = {
    "deberta": Case("deberta-v2", "pair"),
    "llama": Case("llama", "chat", LLAMA),
    "llama without padding": Case("llama", "chat", LLAMA, None),
    # Every text ends in what is the padding, too.
    "llama padded with its end": Case("llama", "chat", LLAMA, "<|end|>"),
    "gemma": Case("gemma2", "chat", GEMMA),
    # Texts end in all kinds of tokens, also the first one of the vocabulary.
    "qwen without padding": Case("qwen3", "pair", None, None),
    "gpt2 without padding": Case("gpt2", "pair", None, None),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def text(chooser: random.Random, length: int) -> str:
    first, last = chooser.choice(SCRIPTS)
    letters = [chr(chooser.randint(ord(first), ord(last))) for _ in range(12)]
    return "".join(chooser.choice([*letters, " ", "\n", "!"]) for _ in range(length))


def ask(case: Case, question: str, answer: str, *, reference: str | None = None) -> Pair:
    conversation = json.dumps([{"role": "user", "content": question}])
    return Pair(conversation if case.form == "chat" else question, answer, reference)


def golden(case: Case, count: int = 200, longest: int = 250) -> list[Pair]:
    """Lengths from 1 to some 250 characters, all orders of magnitude alike; some answers are empty."""
    chooser = random.Random(7)
    pairs = []
    for _ in range(count):
        total, share = math.exp(chooser.uniform(0, math.log(longest))), chooser.uniform(0.1, 0.9)
        question, answer = text(chooser, 1 + int(total * share)), text(chooser, int(total * (1 - share)))
        pairs.append(ask(case, question, answer, reference=chooser.choice(["ab", None])))
    return pairs


# --- models ---


def byte_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    """Byte-level as Llama 3's: spaces count for no token's place, special tokens come last, and one begins a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(
        ["the user and the assistant said: the end of the model\n\n" * 3, "가나다 가나"], trainer
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    begin = [("<|begin|>", tokenizer.token_to_id("<|begin|>"))]
    starting = processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A $B:1", special_tokens=begin)
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), starting])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin|>", chat_template=template)


def unigram_tokenizer() -> DebertaV2Tokenizer:
    """DeBERTa's own class, with letters and a few syllables."""
    letters = [chr(code) for first, last in SCRIPTS for code in range(ord(first), ord(last) + 1)]
    pieces = [(piece, -10.0 / len(piece)) for piece in ["▁", "!", *letters, "an", "el", "가나", "ab"]]
    special = [(token, 0.0) for token in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    return DebertaV2Tokenizer(vocab=[*special, *pieces, ("[MASK]", 0.0)], unk_id=3)


def config_of(case: Case, tokenizer: Any, **changes: Any) -> Any:
    shape = {"vocab_size": len(tokenizer), "num_labels": 1, "hidden_size": 24, "intermediate_size": 48}
    shape |= {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 1200}
    if case.architecture == "deberta-v2":
        # As deberta-v3-large has them, but for types of tokens, which it has not.
        shape |= {"relative_attention": True, "position_biased_input": False, "position_buckets": 16}
        shape |= {"pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm", "share_att_key": True}
        shape |= {"type_vocab_size": 2, "max_position_embeddings": 64}
    else:
        shape |= {"pad_token_id": None if case.padding is None else tokenizer.convert_tokens_to_ids(case.padding)}
    if case.architecture in ("llama", "gemma2", "qwen3"):
        # Gemma's other layer sees a window of 40 tokens only.
        shape |= {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 40}
    return AutoConfig.for_model(case.architecture, **shape | changes)


def save(case: Case, folder: Path, spread: float = 3.0, **changes: Any) -> Path:
    """Writes a random model whose scores have a standard deviation of `spread`, and its tokenizer."""
    tokenizer = unigram_tokenizer() if case.architecture == "deberta-v2" else byte_tokenizer(case.template)
    torch.manual_seed(3)
    model = AutoModelForSequenceClassification.from_config(config_of(case, tokenizer, **changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 1.0 if "embed" in name or "wte" in name else 0.35)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    if spread:
        head = model.classifier if case.architecture == "deberta-v2" else model.score
        with torch.no_grad():
            head.weight.mul_(spread / published(case, folder, golden(case, 60)).std())
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = save(CASES[name], tmp_path_factory.mktemp("reward"))
        return made[name]

    return make


@torch.inference_mode()
def published(case: Case, folder: Path, pairs: list[Pair]) -> torch.Tensor:
    """One pair at a time, as the model cards of OpenAssistant and Skywork do."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = []
    for pair in pairs:
        if case.form == "pair":
            inputs = tokenizer(pair.source, pair.hypothesis, return_tensors="pt")
            scores.append(model(**inputs).logits[0].item())
        else:
            conversation = [*json.loads(pair.source), {"role": "assistant", "content": pair.hypothesis}]
            tokens = tokenizer.apply_chat_template(conversation, tokenize=True, return_tensors="pt", return_dict=False)
            scores.append(model(tokens).logits[0][0].item())
    return torch.tensor(scores, dtype=torch.float64)


@contextmanager
def fed() -> Iterator[list[list[int]]]:
    """The token ids that any model looks up meanwhile."""
    texts: list[list[int]] = []

    def look(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.Embedding) and 300 < module.num_embeddings < 1200:
            texts.extend(inputs[0].tolist())

    handle = register_module_forward_pre_hook(look)
    try:
        yield texts
    finally:
        handle.remove()


# --- the official numbers ---


@pytest.mark.parametrize("name", CASES)
def test_scores_in_batches_are_those_of_the_model_at_batch_1(name: str, folder_of: Callable[[str], Path]) -> None:
    case, folder = CASES[name], folder_of(name)
    pairs = golden(case)
    expected = published(case, folder, pairs)
    assert expected.std() > 1
    order = random.Random(1).sample(range(len(pairs)), len(pairs))
    for tokens_per_batch, largest in ((600, 20), (5_000, 50)):
        scorer = RewardModel(folder, form=case.form, tokens_per_batch=tokens_per_batch)
        assert max(len(batch.places) for batch in scorer.prepare(pairs).batches) >= largest
        found = scorer.score([pairs[place] for place in order])
        assert [scored.place for scored in found] == list(range(len(pairs)))
        assert not any(scored.truncated or scored.error for scored in found)
        scores = torch.tensor([scored.score for scored in found], dtype=torch.float64)
        assert (scores - expected[order]).abs().max() < 1e-4


def test_a_worker_scores_while_the_next_pairs_are_prepared(folder_of: Callable[[str], Path]) -> None:
    case, folder = CASES["llama without padding"], folder_of("llama without padding")
    pairs = golden(case, 47)
    worker = ScoringWorker(RewardModel(folder, form="chat", tokens_per_batch=300), window=12)
    # The last window has none but what cannot be scored.
    for number, pair in enumerate([Pair("[", "w"), *pairs, Pair("[", "x"), Pair("[", "y")]):
        worker.submit(PairQuestion(number, pair))
    answers = {}
    while some := worker.collect():
        answers |= {answer.handle: answer for answer in some}
    worker.close()
    assert [number for number in range(50) if answers[number].error is not None] == [0, 48, 49]
    expected = published(case, folder, pairs).tolist()
    assert [answers[number].score for number in range(1, 48)] == pytest.approx(expected, abs=1e-4)


# --- what is too long ---


def test_of_a_pair_only_the_end_of_the_answer_is_cut(folder_of: Callable[[str], Path]) -> None:
    tokenizer, folder = unigram_tokenizer(), folder_of("deberta")
    question, answer = "abc def", "한 사람 ananas elf gh"
    asked, said = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (question, answer))
    begin, end = tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    alone = len(asked) + 3
    for limit in range(alone + 1, alone + len(said) + 1):
        with fed() as texts:
            (found,) = RewardModel(folder, form="pair", max_length=limit).score([Pair(question, answer)])
        assert texts == [[begin, *asked, end, *said[: limit - alone], end]]
        assert found.truncated == (limit < alone + len(said))
        assert math.isfinite(found.score)
    (refused,) = RewardModel(folder, form="pair", max_length=alone).score([Pair(question, answer)])
    assert refused.error == f"the question alone has {alone} of {alone} tokens"


# The last two are like what the template has behind them and before.
ANSWERS = ["the end, 가나다 나다 😀😁", "  \n the model   said \n\n ", "end", "assistant<|/head|>\n\nassistant"]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("template", [LLAMA, GEMMA, TWICE], ids=["llama", "gemma", "twice"])
def test_of_a_conversation_only_the_end_of_the_answer_is_cut(template: str, answer: str, tmp_path: Path) -> None:
    case, tokenizer = Case("llama", "chat", template), byte_tokenizer(template)
    folder, pair = save(case, tmp_path, spread=0), ask(case, f"Say: {answer}", answer)
    messages = [{"role": "user", "content": f"Say: {answer}"}, {"role": "assistant", "content": answer}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    shown = answer if template == TWICE else answer.strip()
    tail = "<|end|>\n" if template == GEMMA else "<|end|>"
    head = rendered.removesuffix(shown + tail)
    assert len(head) + len(shown) + len(tail) == len(rendered)
    # A special token is one of its own whatever stands before it.
    whole, behind = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (rendered, tail))
    offsets = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    # A text begins once, where this tokenizer, left to itself, would put another beginning before.
    assert [tokens.count(tokenizer.bos_token_id) for tokens in (whole, tokenizer(rendered)["input_ids"])] == [1, 2]
    alone = sum(end <= len(head) for _, end in offsets) + len(behind)
    assert len(behind) < alone < len(whole)
    for limit in {alone + 1, (alone + len(whole)) // 2, len(whole) - 1, len(whole)} - {alone}:
        with fed() as texts:
            (found,) = RewardModel(folder, form="chat", max_length=limit).score([pair])
        assert texts == [[*whole[: limit - len(behind)], *behind]]
        assert found.truncated == (limit < len(whole))
    (refused,) = RewardModel(folder, form="chat", max_length=alone).score([pair])
    assert refused.error == f"the question alone has {alone} of {alone} tokens"


def test_a_pair_that_cannot_be_scored_costs_no_other(folder_of: Callable[[str], Path]) -> None:
    case, folder = CASES["gemma"], folder_of("gemma")
    good = golden(case, 3, 30)
    refused = ['[{"role": "system", "content": "a"}]', "Hi!", '["a"]', '[{"role": 1}]']
    bad = [ask(case, "!" * 200, "a"), *(Pair(source, "c") for source in refused)]
    found = RewardModel(folder, form="chat", max_length=150).score([good[0], *bad, *good[1:]])
    assert [scored.place for scored in found] == list(range(8))
    expected = published(case, folder, good).tolist()
    assert [found[place].score for place in (0, 6, 7)] == pytest.approx(expected, abs=1e-4)
    assert all(math.isnan(scored.score) and not scored.truncated for scored in found[1:6])
    whole = f"<|begin|><|head|>user<|/head|>\n\n{'!' * 200}<|end|>\n<|head|>assistant<|/head|>\n\na<|end|>\n"
    count = len(byte_tokenizer(GEMMA)(whole, add_special_tokens=False)["input_ids"]) - 1
    errors = [f"question alone has {count} of 150 tokens", "refuses the conversation: System role not supported"]
    for scored, says in zip(found[1:6], [*errors, "in JSON", "a list of messages", "refuses"], strict=True):
        assert says in str(scored.error)


def test_by_default_texts_are_as_long_as_the_model_or_its_tokenizer_allows(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    def longest(folder: Path, name: str = "deberta") -> int:
        with fed() as texts:
            RewardModel(folder, form=CASES[name].form).score([ask(CASES[name], "ab " * 40, "c " * 100)])
        return len(texts[0])

    # Distances are all that this DeBERTa knows of positions, so that its 64 of them are no limit.
    assert longest(folder_of("deberta")) > 240
    shutil.copytree(folder_of("deberta"), tmp_path / "short")
    edit_json("tokenizer_config.json", model_max_length=130)(tmp_path / "short")
    assert longest(tmp_path / "short") == 130
    positions = {"position_biased_input": True, "max_position_embeddings": 140}
    assert longest(save(CASES["deberta"], tmp_path / "positions", spread=0, **positions)) == 140
    llama = save(CASES["llama"], tmp_path / "llama", spread=0, max_position_embeddings=150)
    assert longest(llama, "llama") == 150
    with pytest.raises(InputError, match="max_length is 151, but the model takes 1 to 150 tokens"):
        RewardModel(llama, form="chat", max_length=151)


# --- folders that hold no reward model ---


def edit_json(name: str, **changes: Any) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


def remove(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def drop_tensor(name: str) -> Callable[[Path], Any]:
    def drop(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        del weights[name]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return drop


def language_model(folder: Path) -> None:
    config = LlamaConfig(
        vocab_size=400, hidden_size=24, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def more_tokens(folder: Path) -> None:
    tokenizer = byte_tokenizer(LLAMA)
    tokenizer.add_tokens(["<|one too many|>"])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (drop_tensor("score.weight"), r"lack the classification head \(score.weight\)"),
        (language_model, r"lack the classification head \(score.weight\)"),
        (drop_tensor("model.layers.1.mlp.up_proj.weight"), "lack 1 tensors of the model"),
        (lambda folder: save(CASES["llama"], folder, spread=0, num_labels=3), "a classifier with 3 labels"),
        (remove("model.safetensors"), "no classification model that transformers can load"),
        (edit_json("config.json", model_type="frob"), "frob"),
        (remove("tokenizer.json"), "no tokenizer"),
        (remove("chat_template.jinja"), "no chat template; put one there"),
        (more_tokens, "they do not belong together"),
    ],
)
def test_what_is_no_reward_model_is_one_line_that_names_its_folder(
    folder_of: Callable[[str], Path], tmp_path: Path, damage: Callable[[Path], Any], says: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folder_of("llama"), folder)
    damage(folder)
    with pytest.raises(InputError, match=says) as caught:
        RewardModel(folder, form="chat")
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_numbers_that_overflow_are_refused(tmp_path: Path) -> None:
    folder = save(CASES["deberta"], tmp_path, spread=1e6)
    assert abs(RewardModel(folder, form="pair").score([Pair("a", "b")])[0].score) > 70_000
    with pytest.raises(InputError, match=r"overflow in torch\.float16"):
        RewardModel(folder, form="pair", dtype="float16").score([Pair("a", "b")])


# --- the program ---


def test_the_program_scores_conversations(tmp_path: Path, folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("llama")
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the end?"}]
    asked = [
        asking(None, 3, prompt=None, messages=messages),
        asking(None, 1, name="bare", prompt="the user"),
    ]
    texts = [["the model", None, "ab " * 300], ["the assistant"]]
    write_table(tmp_path / "requests.parquet", REQUESTS, asked)
    completions = [row for one, found in zip(asked, texts, strict=True) for row in answers(one, found)]
    write_table(tmp_path / "completions.parquet", COMPLETIONS, completions)
    receipt = receipt_of(folder, tmp_path / "receipt.json")
    flags = ["--form", "chat", "--max-length", "200", "--dtype", "float32"]
    done = run_scorer("score_reward.py", tmp_path, receipt, receipt, *flags)
    assert done.returncode == 0, done.stderr
    rows = list(read_rows(tmp_path / "scores.parquet", SCORES))
    assert [row["score"] is None for row in rows] == [False, True, False, False]
    assert [row["truncated"] for row in rows] == [False, False, True, False]
    bare = json.dumps([{"role": "user", "content": "the user"}])
    expected = published(CASES["llama"], folder, [Pair(json.dumps(messages), "the model"), Pair(bare, "the assistant")])
    assert [rows[0]["score"], rows[3]["score"]] == pytest.approx(expected.tolist(), abs=1e-4)
