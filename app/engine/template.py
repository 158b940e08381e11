"""A model's chat template, without the layers that transformers and vLLM put around it.

vLLM borrows a tokenizer for each chat, and copies one if all are borrowed; transformers reads all
special tokens anew. What they call in the end is the same, in the same sandbox: `test_tokenizer.py`
holds the two against each other.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template
from vllm.tokenizers.hf import ThreadSafeHFTokenizerMixin


class ChatTemplate:
    """Renders conversations that ask for nothing but the template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
        """Raises jinja2's TemplateError if it is none."""
        compiled = _compile_jinja_template(source)
        # A chain of mappings, which every rendering would copy key by key.
        compiled.globals = dict(compiled.globals)
        self._render = compiled.render
        self._constants = dict(tokenizer.special_tokens_map)

    def render(
        self,
        messages: Sequence[Any],
        tools: Sequence[Any] | None,
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        """Raises what the template raises."""
        text: str = self._render(
            self._constants,
            messages=messages,
            tools=tools,
            documents=None,
            add_generation_prompt=add_generation_prompt,
        )
        return text


def plain_template(tokenizer: Any, source: object) -> ChatTemplate | None:
    """The template of a tokenizer that applies it as transformers does, if there is just one."""
    if not isinstance(source, str) or not is_plain(tokenizer):
        return None
    try:
        return ChatTemplate(tokenizer, source)
    except TemplateError:  # told to whoever wants it applied
        return None


def is_plain(tokenizer: Any) -> bool:
    kinds = [each for each in type(tokenizer).__mro__ if "apply_chat_template" in vars(each)]
    own = [each for each in kinds if not issubclass(each, ThreadSafeHFTokenizerMixin)]
    return own == [PreTrainedTokenizerBase] and not isinstance(tokenizer.chat_template, dict)
