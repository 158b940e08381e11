"""Prompts and adapters as vLLM takes them."""

from typing import Any

from vllm.lora.request import LoRARequest

from app.engine.base import Adapter, RenderedPrompt


def engine_input(prompt: RenderedPrompt, owner: str) -> Any:
    """What is rendered already, so that vLLM does not render it again in a thread of its own.

    Prefixes are cached for each owner apart: how fast a prompt is answered must not tell what
    somebody else has asked (GHSA-4qjh-9fv9-r85r).
    """
    content = prompt.pictures or {"type": "token"}
    salt = {"cache_salt": owner} if owner else {}
    return {**content, "prompt_token_ids": prompt.token_ids, **salt}


def lora_request(adapter: Adapter) -> LoRARequest:
    """vLLM takes requests of one name for one; each version is another, whatever its files."""
    return LoRARequest(f"{adapter.name}.{adapter.number}", adapter.number, adapter.path)
