"""The chat template of a model, of which one turn of the user and one of the assistant are used.

Knows the template as text. Must not know rows or tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from sorted_tuning.errors import TuningError


def prompt_text(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """The chat prompt up to where the assistant's answer begins."""
    if not tokenizer.chat_template:
        raise TuningError(f"model: must have a chat template, found none in {tokenizer.name_or_path}")
    turns = [{"role": "user", "content": question}]
    # A model that can switch its thoughts off does so: they would fill the rows. Other templates ignore the variable.
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)


@dataclass(frozen=True)
class Template:
    """A chat template around the user's words."""

    before: str
    after: str
    stop: str

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase) -> Template:
        """Split the rendered template at a marker."""
        marker = "QUESTION-GOES-HERE"
        before, after = prompt_text(tokenizer, marker).split(marker)
        return Template(before, after, str(tokenizer.eos_token))
