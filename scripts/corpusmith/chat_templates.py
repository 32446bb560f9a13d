"""Whether a model can hold a conversation, without loading it."""

from __future__ import annotations

from corpusmith.files import read_json
from corpusmith.models import ModelReceipt, folder_of

# Where transformers looks for a chat template, newest first; the last is the tokenizer's own configuration.
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/default.jinja")
_TOKENIZER = "tokenizer_config.json"


def takes_messages(receipt: ModelReceipt) -> bool:
    """Whether a model can be asked with messages: it has a chat template, or a server that has one."""
    if receipt.origin == "api":
        return True
    files = {file.path for file in receipt.files}
    if not files.isdisjoint(_TEMPLATES):
        return True
    return _TOKENIZER in files and bool(read_json(folder_of(receipt) / _TOKENIZER).get("chat_template"))
