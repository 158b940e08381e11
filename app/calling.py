"""Replies that may call tools: started and generated to their end on the way of a `Call`."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.call import Call
from app.engine.base import RenderedPrompt
from app.prompts import READY_FOR_REPLY, chat_prompt
from app.replies.turns import Draft, drafts, style_of
from app.tools.offer import Offer
from app.tools.rounds import Rounds
from app.tools.verified import VerifiedTurns
from schemas.messages import Message
from schemas.sampling import SamplingFields

Turns = VerifiedTurns | Rounds
"""Choices that may call tools."""


def verified_turns(
    call: Call,
    prompt: RenderedPrompt,
    fields: SamplingFields,
    offer: Offer,
    *,
    stream: bool = False,
    grows: bool = False,
) -> VerifiedTurns:
    """Choices whose calls go to the client; `grows` sends their arguments as they are written."""
    thinking = call.thinking(prompt)
    constraint = offer.constraint(thinking)
    sampling = call.sampling(prompt, fields, stream=stream, constraint=constraint)
    task = call.task(prompt, sampling, "tool_call")
    return VerifiedTurns(task, offer, call.engine.tokenizer, thinking, grows=grows)


def rounds(
    call: Call,
    messages: Sequence[Message],
    fields: SamplingFields,
    offer: Offer,
    *,
    template_arguments: Mapping[str, Any] = READY_FOR_REPLY,
    stream: bool = False,
) -> Rounds:
    """One choice, for which registered tools run here."""

    async def begin(messages: Sequence[Message], offer: Offer) -> VerifiedTurns:
        prompt = chat_prompt(
            call.engine,
            messages,
            tools=offer.definitions,
            dialect=offer.dialect,
            template_arguments=template_arguments,
        )
        rendered = await call.renderer.rendered(prompt)
        turns = verified_turns(call, rendered, fields, offer, stream=stream)
        await turns.begin()
        return turns

    return Rounds(begin, messages, offer, call.registry, call.settings.tool_rounds)


async def begin_turns(call: Call, turns: Turns) -> None:
    """Start them; everything refusable is past once it returns."""
    await call.unless_disconnected(turns.begin())
    call.note_first_token()


async def complete_turns(
    call: Call, turns: Turns, offer: Offer, num_choices: int = 1, num_top: int = 0
) -> list[Draft]:
    """Generate them to the end."""
    choices = await call.unless_disconnected(whole_turns(turns, offer, num_choices, num_top))
    call.note_first_token(turns.first)
    return choices


async def whole_turns(turns: Turns, offer: Offer, num_choices: int, num_top: int) -> list[Draft]:
    """Every choice to its end; none is left running."""
    try:
        await turns.begin()
        return await drafts(turns.pieces(), style_of(offer), num_choices, num_top)
    finally:
        await turns.aclose()
