"""Writes ../pre-tokenizers.json: the pieces of some texts by each pre-tokenizer, named as in llama.cpp.

    python test/golden/architectures/pre_tokenizers.py

The expressions are those of the transformers package, and the `tokenizers` package applies them.
"""

import json
from pathlib import Path

from tokenizers import Regex, pre_tokenizers
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

TEXTS = (
    "Hello, world! I'LL say: it's 12345 o'clock, HTTPServer2024 camelCase ÉcoleNormale\n\n  indented\tx = {'a': 1}//\n",
    "naïve ﬁancée — 東京タワー 2024年, Ελλάδα, ΑΒΓδε, Ǆ ǅ ǆ, مرحبا ١٢٣, हिन्दी, e\u0301 🚀🇫🇷!!?\r\n   \n trailing   ",
    "https://a.b/c?d=1&e=//x\r\n\r\n'dare we'd WE'D 3.14159 1,000,000   \u00a0 \u3000end",
)


def split(name: str) -> pre_tokenizers.PreTokenizer:
    regex = Regex(GGUF_PRE_TOKENIZER_SPLITS[name])
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(regex, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )


digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
steps = {"smollm": digits, "refact": digits, "gpt-2": pre_tokenizers.ByteLevel(False)}
steps |= {name: split(name) for name in ("llama-bpe", "smaug-bpe", "dbrx", "qwen2", "tekken", "gpt-4o")}
pieces = {name: [[piece for piece, _ in step.pre_tokenize_str(text)] for text in TEXTS] for name, step in steps.items()}
lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in {"texts": TEXTS, **pieces}.items()]
(Path(__file__).parent.parent / "pre-tokenizers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
