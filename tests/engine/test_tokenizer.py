import warnings

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from app.engine.tokenizer import EngineTokenizer

from app.errors import InvalidRequest


class Wrapper:
    """As much of transformers' tokenizer as ours reads."""

    def __init__(self, pattern: str) -> None:
        self.backend_tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
        self.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")


def test_text_on_which_the_tokenizer_panics_is_refused() -> None:
    tokenizer = EngineTokenizer(Wrapper("(a|aa)+b"), None)

    assert tokenizer.encode("a", add_special_tokens=False) == [0]
    with pytest.raises(InvalidRequest, match="cannot be split"):
        tokenizer.encode("a" * 60, add_special_tokens=False)
    assert tokenizer.encode("a", add_special_tokens=False) == [0]


def test_what_is_no_panic_is_not_taken_for_one() -> None:
    tokenizer = EngineTokenizer(Wrapper("a"), None)

    with pytest.raises(TypeError):
        tokenizer.encode(None, add_special_tokens=False)  # type: ignore[arg-type]
