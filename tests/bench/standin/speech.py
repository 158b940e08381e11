"""What the stand-in says: plain words from a place in the vocabulary that the prompt decides.

The core and whoever checks its texts work it out each for themselves, from the model's folder.
"""

import re
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

PLAIN = re.compile(r" ?[a-z]+")
"""Texts that need no escape in JSON and never join into one character with their neighbours."""


class Speech:
    """The plain tokens of one model, and which of them answer a prompt."""

    def __init__(self, model: Path) -> None:
        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        texts = [tokenizer.decode([each]) for each in range(tokenizer.get_vocab_size())]
        self.tokens = [token for token, text in enumerate(texts) if PLAIN.fullmatch(text)]
        self._tokenizer = tokenizer

    def start(self, prompt: Sequence[int]) -> int:
        """Place of the first token of the answer."""
        return zlib.crc32(array("I", prompt).tobytes()) % len(self.tokens)

    def text(self, prompt: Sequence[int], num_tokens: int) -> str:
        """The whole answer."""
        start = self.start(prompt)
        places = range(start, start + num_tokens)
        return str(
            self._tokenizer.decode([self.tokens[each % len(self.tokens)] for each in places])
        )
