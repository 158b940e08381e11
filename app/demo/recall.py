"""Lessons and a model in, the answers it does not reproduce greedily out.

Used at the end of training and by the tests. Knows nothing of how the model was trained.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from app.demo.corpus import Conversation, Corpus, Passage
from app.demo.tokenizer import END_OF_TEXT


class Lesson(NamedTuple):
    """What the model reads and what it must write, both as text with special tokens."""

    prompt: str
    answer: str


def chat_lesson(conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> Lesson:
    """The conversation through the chat template, split before its last answer."""
    messages = conversation.messages
    tools: list[Any] | None = [*conversation.tools] or None
    prompt = tokenizer.apply_chat_template(
        messages[:-1], tools=tools, tokenize=False, add_generation_prompt=True
    )
    whole = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    return Lesson(str(prompt), str(whole).removeprefix(str(prompt)).removesuffix("\n"))


def raw_lesson(passage: Passage) -> Lesson:
    """The passage without a template; the end of the text is part of what must be written."""
    return Lesson(passage.prompt, passage.continuation + END_OF_TEXT)


def all_lessons(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> list[Lesson]:
    """Everything that must be reproduced exactly as written."""
    chats = [chat_lesson(conversation, tokenizer) for conversation in corpus.lessons()]
    return chats + [raw_lesson(passage) for passage in corpus.passages]


@torch.inference_mode()
def forgotten(
    lessons: Sequence[Lesson], model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> list[Lesson]:
    """The lessons whose greedy answer differs from the written one."""
    return [lesson for lesson in lessons if not _knows(lesson, model, tokenizer)]


def _knows(lesson: Lesson, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Greedy decoding writes the answer if each token is the likeliest after those before it:
    one pass over the written text tells as much as writing it anew.
    """
    prompt, answer = (tokenizer.encode(text) for text in lesson)
    logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return bool(logits.argmax(dim=-1).tolist() == answer)
