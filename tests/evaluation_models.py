"""A tiny model with adapters, and a task whose right answers are known: what transformers alone gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from corpusmith.models import describe_files, describe_folder, write_receipt
from corpusmith.toy.language_model import Shape, build_model, build_tokenizer

MAX_LENGTH, TOKENS = 128, 6
SHAPE = Shape(layers=2, width=32, heads=2, feed_forward=64, max_length=MAX_LENGTH)
QUESTIONS = [f"{name} bought {number} books." for name in ("Mina", "Old Juno") for number in (3, 14, 25, 99)]
TASK = """
task: greedy_answers
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: [], max_gen_toks: 6, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: {version: 2.5}
"""


def greedy(model: Any, tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    """The answer of a model, one prompt at a time, by transformers alone."""
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        found = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False
        )
    return tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)


class World:
    """The folders and receipts of a base, of two others, and of adapters on the first."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self.tokenizer = build_tokenizer(MAX_LENGTH)
        self.base = self._save("base", self._model(0, SHAPE))
        self.wider = self._save("wider", self._model(0, Shape(2, 64, 2, 64, MAX_LENGTH)))
        self.deeper = self._save("deeper", self._model(0, Shape(3, 32, 2, 64, MAX_LENGTH)))
        lora = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        prompt = PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM")
        self.lora = self._adapt("lora", get_peft_model(self._model(0, SHAPE), lora))
        self.prompt = self._adapt("prompt", get_peft_model(self._model(0, SHAPE), prompt))

    def _model(self, seed: int, shape: Shape) -> PreTrainedModel:
        torch.manual_seed(seed)
        return build_model(self.tokenizer, shape).eval()

    def _save(self, name: str, model: PreTrainedModel) -> Path:
        model.save_pretrained(self.folder / name)
        self.tokenizer.save_pretrained(self.folder / name)
        receipt = self.folder / f"{name}.json"
        write_receipt(receipt, describe_folder(self.folder / name, name, "built"))
        return receipt

    def _adapt(self, name: str, model: PeftModel) -> Path:
        """An adapter as a tuning leaves it: the files below model/, training.json and the receipt beside them."""
        folder = self.folder / "models" / name
        model.save_pretrained(folder / "model")
        self.tokenizer.save_pretrained(folder / "model")
        base = json.loads(self.base.read_text())
        (folder / "training.json").write_text(json.dumps({"base": "base", "base_identity": base["identity"]}))
        receipt = folder / "receipt.json"
        write_receipt(receipt, describe_files(folder / "model", name) | {"origin": "built"})
        return receipt

    def answers(self, adapter: Path | None = None, template: bool = False) -> list[str]:
        """What a model answers to the questions, by transformers and PEFT alone."""
        model: Any = self._model(0, SHAPE)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter.parent / "model").eval()
        prompts = QUESTIONS
        if template:
            messages = [[{"role": "user", "content": question}] for question in QUESTIONS]
            prompts = [
                self.tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in messages
            ]
        return [greedy(model, self.tokenizer, prompt) for prompt in prompts]

    def write_task(self, name: str, answers: list[str], text: str = TASK) -> Path:
        """A task file in a folder of its own, its data beside it."""
        folder = self.folder / "tasks" / name
        folder.mkdir(parents=True)
        rows = [{"question": question, "answer": answer} for question, answer in zip(QUESTIONS, answers, strict=True)]
        (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "task.yaml").write_text(text)
        return folder / "task.yaml"
