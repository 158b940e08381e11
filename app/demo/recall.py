"""Lessons and a model in, the answers it does not reproduce greedily out.

Used at the end of training and by the tests. Knows nothing of how the model was trained.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from app.demo.corpus import Conversation, Corpus, Passage
from app.demo.tokenizer import END_OF_TEXT

_BATCH_SIZE = 64


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
) -> list[tuple[Lesson, str]]:
    """The lessons whose greedy answer differs from the written one, with what came instead."""
    queue = sorted(lessons, key=lambda lesson: len(tokenizer.encode(lesson.answer)))
    batches = [queue[i : i + _BATCH_SIZE] for i in range(0, len(queue), _BATCH_SIZE)]
    replies = [reply for batch in batches for reply in greedy_replies(batch, model, tokenizer)]
    return [
        (lesson, reply)
        for lesson, reply in zip(queue, replies, strict=True)
        if reply != lesson.answer
    ]


@torch.inference_mode()
def greedy_replies(
    lessons: Sequence[Lesson], model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """What the model writes after each prompt, as many tokens as the longest answer has."""
    prompts = [lesson.prompt for lesson in lessons]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    length = max(len(tokenizer.encode(lesson.answer)) for lesson in lessons)
    output = model.generate(  # type: ignore[misc]  # its self type suits no type checker but ty
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=length,
        do_sample=False,
    )
    written = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :])
    return [_until_end(text, tokenizer) for text in written]


def _until_end(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Cut the padding that a shorter answer gets in a batch."""
    for end in (tokenizer.eos_token, END_OF_TEXT):
        head, found, _ = text.partition(end)
        if found:
            return str(head + found)
    return text
