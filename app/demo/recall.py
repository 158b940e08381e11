"""Lessons and a model in, the answers it does not reproduce greedily out.

Used at the end of training and by the tests. Knows nothing of how the model was trained.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from app.demo.corpus import Conversation, Corpus, Passage
from app.demo.tokenizer import END_OF_TEXT

_BATCH_SIZE: Final = 32


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


def forgotten(
    lessons: Sequence[Lesson], model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> list[Lesson]:
    """The lessons whose greedy answer differs from the written one.

    Greedy decoding writes an answer if each of its tokens is the likeliest after those before
    it, so one pass over the written text tells as much as writing it anew.
    """
    queue = sorted(lessons, key=lambda lesson: len(lesson.prompt + lesson.answer))
    batches = [queue[i : i + _BATCH_SIZE] for i in range(0, len(queue), _BATCH_SIZE)]
    return [lesson for batch in batches for lesson in _forgotten_of(batch, model, tokenizer)]


def _forgotten_of(
    batch: Sequence[Lesson], model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> Iterator[Lesson]:
    texts = [lesson.prompt + lesson.answer for lesson in batch]
    ids = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")["input_ids"]
    with torch.inference_mode():
        likeliest = model(input_ids=ids).logits.argmax(dim=-1)
    for lesson, row, guesses in zip(batch, ids.tolist(), likeliest.tolist(), strict=True):
        start = len(tokenizer.encode(lesson.prompt))
        end = start + len(tokenizer.encode(lesson.answer))
        if row[start:end] != guesses[start - 1 : end - 1]:
            yield lesson
