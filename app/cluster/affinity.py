"""Which replica a request should go to: its headers and body in, a key and an order out.

A replica that has read a conversation before still holds it in its prefix cache. Knows no Ray.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

SESSION_HEADER = b"x-session-id"
PREFIX_BYTES = 1024
"""Conversations that agree in this much are kept together; a few hundred tokens."""

INSTRUCTING = frozenset({"system", "developer"})

R = TypeVar("R")


class Message(msgspec.Struct):
    """Of a message only who speaks; what is said stays as it came."""

    role: Any = None
    content: msgspec.Raw = msgspec.Raw()


class Beginning(msgspec.Struct):
    """What a body says first, on every route that generates; other fields are skipped."""

    tools: msgspec.Raw = msgspec.Raw()
    messages: list[Message] = []
    history: list[Message] = []
    prompt: msgspec.Raw = msgspec.Raw()
    prompts: list[msgspec.Raw] = []


decoder = msgspec.json.Decoder(Beginning)


def affinity_key(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> str:
    """The session that a request names, else a digest of how its prompt begins; "" for neither."""
    for name, value in headers:
        if name == SESSION_HEADER and value:
            return digest(b"session", value)
    beginning = prompt_beginning(body)
    return digest(b"prefix", beginning) if beginning else ""


def prompt_beginning(body: bytes) -> bytes:
    """Tools and messages up to the first that is not an instruction, cut at PREFIX_BYTES.

    What follows differs from turn to turn of the same conversation. Empty if the body has no
    prompt or is none of ours: a replica refuses it.
    """
    try:
        begun = decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""
    said = opening(begun.messages or begun.history) or bytes(begun.prompt)
    said = said or bytes(begun.prompts[0] if begun.prompts else b"")
    if not said:
        return b""
    return bytes(begun.tools)[:PREFIX_BYTES] + said[:PREFIX_BYTES]


def opening(messages: Sequence[Message]) -> bytes:
    """The instructions and the first message after them, as one text."""
    said = b""
    for message in messages:
        said += f"{message.role}".encode() + bytes(message.content)
        if message.role not in INSTRUCTING or len(said) >= PREFIX_BYTES:
            break
    return said


def digest(kind: bytes, value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=16, person=kind).hexdigest()


def ranked(key: str, in_flight: Mapping[R, int], limit: int) -> list[R]:
    """Replicas in the order in which they should be tried.

    Those with fewer than `limit` requests in flight come first, in an order of the key's own, so
    that one replica more or less moves only its own share of the keys (rendezvous hashing). Then,
    and always without a key, the least loaded.
    """
    if not key:
        return sorted(in_flight, key=in_flight.__getitem__)
    free = [replica for replica, count in in_flight.items() if count < limit]
    full = [replica for replica, count in in_flight.items() if count >= limit]
    free.sort(key=lambda replica: digest(b"order", f"{key}{replica}".encode()))
    return free + sorted(full, key=in_flight.__getitem__)
