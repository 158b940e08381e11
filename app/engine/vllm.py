"""`AsyncLLMEngine` behind `base.Engine`."""

import asyncio
import gc
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TextIO

import vllm.envs
from PIL.Image import Image
from prometheus_client import REGISTRY
from vllm import SamplingParams
from vllm.engine.async_llm_engine import AsyncLLMEngine
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import RequestOutputCollector
from vllm.v1.structured_output.utils import _reduced_vocabulary

from app.engine.arguments import engine_arguments
from app.engine.base import (
    ANYBODY,
    Adapter,
    Layer,
    Limits,
    Origin,
    RenderedPrompt,
    Sampling,
    Status,
)
from app.engine.checkpoints.checkpoint import resolve_checkpoint
from app.engine.checkpoints.int8 import register_int8
from app.engine.checkpoints.unusable import first_line
from app.engine.constraints.compiler import ConstraintCompiler
from app.engine.constraints.vocabulary import make_vocabulary
from app.engine.core import answer, core_pids, drop_adapter_series, max_num_seqs
from app.engine.custom_models import register_custom_models
from app.engine.devices import register_gpus
from app.engine.environment import INDEX_CACHE_DIR
from app.engine.generation import VLLMGeneration
from app.engine.inputs import engine_input, lora_request
from app.engine.layers import layers_of
from app.engine.leash import leash_children
from app.engine.link import CoreLink, can_link
from app.engine.pictures import PictureReader, reads_images
from app.engine.push import PushProcessor
from app.engine.segments import remove_segments, segments_of
from app.engine.stats import FoldingStatLogger
from app.engine.tokenizer import EngineTokenizer
from app.engine.translation import VLLM_ERRORS, translate, translated
from app.errors import AdapterUnusable, EngineDead, InvalidRequest
from app.random_names import random_name
from app.settings import Settings

logger = logging.getLogger(__name__)

OUTPUT_KINDS = {True: RequestOutputKind.DELTA, False: RequestOutputKind.FINAL_ONLY}
STOP_TIMEOUT_SECONDS = 5.0

YOUNG_OBJECTS = 20_000
"""More than before that the collector looks at: what some hundred requests hold at once."""


Files = Callable[[], dict[str, Any]]
"""What vLLM is told of where the model's files are. May take long, and raise."""


def engines(
    settings: Settings, marks: Collection[str] = (), terminal: TextIO = sys.stderr
) -> Callable[[], "VLLMEngine"]:
    """Makes engines that serve the same files, whatever happens to the hub or in it meanwhile.

    `terminal`: where the progress of downloads and conversions is shown.
    """
    return partial(
        VLLMEngine, settings, marks, cache(partial(resolve_checkpoint, settings, terminal))
    )


class VLLMEngine:
    """One vLLM engine: its core runs in a child process, its client on our event loop."""

    tokenizer: EngineTokenizer
    limits: Limits
    layers: Mapping[str, Layer]
    description = ""

    def __init__(
        self, settings: Settings, marks: Collection[str] = (), files: Files | None = None
    ) -> None:
        """`marks`: special tokens that constrained text may contain, spelled out.

        `files`: finds the model's, instead of asking its hub.
        """
        self._settings = settings
        self._marks = marks
        self._files = files or partial(resolve_checkpoint, settings, sys.stderr)
        self._others: frozenset[Any] = frozenset()
        """Processes that were there before this engine's."""

        self._opening: asyncio.Task[AsyncLLMEngine] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._llm: AsyncLLMEngine | None = None
        self._compiler: ConstraintCompiler | None = None
        self._pictures: PictureReader | None = None
        self._defaults: dict[str, Any] = {}
        self._segments: frozenset[str] = frozenset()
        self._push: PushProcessor | None = None
        self._link: CoreLink | None = None
        self._failed = False

    @property
    def status(self) -> Status:
        if self._failed or (self._llm is not None and self._llm.errored):
            return "failed"
        return "loading" if self._llm is None else "ready"

    async def start(self) -> None:
        """Load the model in a thread: it takes seconds to minutes, and probes want answers."""
        self._others = frozenset(multiprocessing.active_children())
        self._opening = asyncio.create_task(asyncio.to_thread(self._open))
        try:
            llm = await asyncio.shield(self._opening)
            self._open_link(llm)
            await answer(llm, llm.get_supported_tasks())
        except Exception as error:
            self._failed = True
            raise EngineDead(
                f"The model could not be loaded: {first_line(error)}.{hint_for(error)}"
            ) from error
        self._llm = llm
        self._push = PushProcessor(llm.output_processor, self._settings.coalesce_seconds)
        self._segments = segments_of(core_pids(llm))
        self._settle(llm)

    def _open(self) -> AsyncLLMEngine:
        leash_children()
        register_custom_models()
        register_int8()
        arguments = engine_arguments(self._settings, self._files())
        llm = AsyncLLMEngine.from_engine_args(arguments, stat_loggers=[FoldingStatLogger])
        try:
            self._describe(llm)
        except BaseException:
            self._close_compiler()
            llm.shutdown()
            raise
        return llm

    def _open_link(self, llm: AsyncLLMEngine) -> None:
        if can_link(llm):
            self._link = CoreLink(llm)
            self._link.open()

    def _describe(self, llm: AsyncLLMEngine) -> None:
        """Read off the loaded model what requests are checked against."""
        model = llm.model_config
        path = self._settings.chat_template
        template = Path(path).read_text() if path else None
        tokenizer = llm.get_tokenizer()
        pictures = PictureReader(llm, template) if reads_images(llm) else None
        self.tokenizer = EngineTokenizer(tokenizer, template, pictures)
        self.limits = Limits(
            max_model_len=model.max_model_len,
            vocabulary_size=model.get_vocab_size(),
            max_token_chars=self.tokenizer.max_token_chars,
            max_num_seqs=max_num_seqs(llm),
            reads_images=self._check_type(pictures),
            image_token_id=pictures.token_id if pictures else None,
        )
        self._pictures = pictures
        self._compiler = ConstraintCompiler(
            self._settings,
            make_vocabulary(_reduced_vocabulary(tokenizer), tokenizer, self._marks),
            Path(os.environ[INDEX_CACHE_DIR]),
        )
        self._compiler.open()
        self.layers = layers_of(model.hf_config, reads_images=model.is_multimodal_model)
        self._defaults = model.get_diff_sampling_param()
        device = llm.vllm_config.device_config.device_type
        dtype = str(model.dtype).removeprefix("torch.")
        self.description = f"{model.architecture}, {dtype}, {device}"

    def _check_type(self, pictures: PictureReader | None) -> bool:
        """Whether pictures are read, as the operator wants and the model can."""
        if self._settings.model_type == "VL" and pictures is None:
            raise InvalidRequest("MODEL_TYPE is VL, but this model reads no pictures.")
        return self._settings.model_type != "LLM" and pictures is not None

    def _settle(self, llm: AsyncLLMEngine) -> None:
        """Show the GPUs, and make the steady state cheap.

        Environment variables are cached (1.4 µs a token), and old objects are not collected again
        (a full collection of this heap stops the loop for 0.3 s, which is why what an engine before
        this one has left in cycles stays: some MiB). What requests make is hardly ever in a cycle,
        and looking for one after each 700 objects more takes 8 % of the loop.
        """
        if current_platform.is_cuda():
            register_gpus(REGISTRY)
        drop_adapter_series(llm)
        renderer = llm.renderer
        renderer.get_eos_token_id = cache(renderer.get_eos_token_id)  # a search, once a request
        llm.input_processor.assign_request_id = keep_name
        vllm.envs.enable_envs_cache()
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)

    @property
    def _running(self) -> AsyncLLMEngine:
        if self._llm is None:
            raise EngineDead("The engine is not running.")
        return self._llm

    async def add_adapter(self, adapter: Adapter) -> None:
        """Load it; what our own checks let through, vLLM may still refuse."""
        try:
            await answer(self._running, self._running.add_lora(lora_request(adapter)))
        except EngineDead:
            raise
        except EngineDeadError as error:
            raise translate(error) from error
        except Exception as error:
            logger.warning("vLLM refused adapter %s: %s", adapter.name, error)
            await self.remove_adapter(adapter)  # it may have taken a place before it failed
            raise AdapterUnusable(
                "The engine could not apply the adapter to this model."
            ) from error

    async def remove_adapter(self, adapter: Adapter) -> None:
        with translated():
            await answer(self._running, self._running.remove_lora(adapter.number))

    async def pin_adapter(self, adapter: Adapter) -> None:
        with translated():
            await answer(self._running, self._running.pin_lora(adapter.number))

    async def illustrate(self, prompt: RenderedPrompt, images: Sequence[Image]) -> RenderedPrompt:
        if self._pictures is None:
            raise InvalidRequest("This model reads no pictures.", param="messages")
        return await self._pictures.illustrate(prompt, images)

    async def submit(
        self,
        prompt: RenderedPrompt,
        sampling: Sampling,
        adapter: Adapter | None,
        origin: Origin = ANYBODY,
    ) -> "VLLMGeneration":
        """Start a request and wait for its first output; see `base.Engine`."""
        llm = self._running
        parameters = self._parameters(sampling, await self._constrained(sampling))
        collector = await self._add(llm, prompt, parameters, adapter, origin)
        assert self._push is not None
        num_choices = sampling.arguments.get("n", 1)
        generation = VLLMGeneration(llm, collector, self._push.giving, origin, num_choices)
        await generation.wait_for_first()
        return generation

    async def _add(
        self,
        llm: AsyncLLMEngine,
        prompt: RenderedPrompt,
        parameters: SamplingParams,
        adapter: Adapter | None,
        origin: Origin,
    ) -> RequestOutputCollector:
        """Give the request to the engine. What fails or is cancelled half-way is taken back."""
        request_id = random_name()
        try:
            return await llm.add_request(
                request_id,
                engine_input(prompt, origin.owner),
                parameters,
                lora_request=lora_request(adapter) if adapter else None,
                priority=origin.priority,
            )
        except BaseException as error:
            await llm.abort(request_id)
            if isinstance(error, Exception):
                raise translate(error) from error
            raise

    async def _constrained(self, sampling: Sampling) -> dict[str, Any]:
        """A constraint as vLLM's parameters: a structural tag passes unread to our backend."""
        if sampling.constraint is None or self._compiler is None:
            return {}
        program = await self._compiler.program(
            sampling.constraint, sampling.arguments["max_tokens"]
        )
        return {
            "structured_outputs": StructuredOutputsParams(structural_tag=program),
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
        }

    def _parameters(self, sampling: Sampling, constrained: dict[str, Any]) -> SamplingParams:
        """The request's arguments over the model's own defaults."""
        try:
            return SamplingParams(
                **self._defaults | dict(sampling.arguments) | constrained,
                output_kind=OUTPUT_KINDS[sampling.stream],
                skip_clone=True,
            )
        except VLLM_ERRORS as error:
            raise translate(error) from error

    async def heartbeat(self) -> None:
        """The core reads calls between two steps; each core answers, where there are several."""
        with translated():
            await answer(self._running, self._running.engine_core.get_supported_tasks_async())

    async def abort_all(self) -> None:
        if self._llm is None:
            return
        try:
            running = list(self._llm.output_processor.request_states)
            await self._llm.abort(running, internal=True)
        except VLLM_ERRORS as error:
            raise translate(error) from error

    async def close(self) -> None:
        """Stop the engine, once, also if who asked for it does not wait for the end."""
        self._failed = True
        if self._closing is None and self._opening is not None:
            self._closing = asyncio.create_task(self._close(self._opening))
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def _close(self, opening: asyncio.Task[AsyncLLMEngine]) -> None:
        """One that is still loading loses its processes and fails."""
        await asyncio.to_thread(self._close_compiler)
        await self._end_opening(opening)
        if opening.done() and not opening.exception():
            llm = opening.result()
            await asyncio.to_thread(llm.shutdown, STOP_TIMEOUT_SECONDS)
            remove_segments(self._segments)
            for each in (self._push, self._link):
                if each is not None:
                    each.close()
            llm.output_processor.propagate_error(EngineDeadError())

    def _close_compiler(self) -> None:
        if self._compiler is not None:
            self._compiler.close()

    async def _end_opening(self, opening: asyncio.Task[AsyncLLMEngine]) -> None:
        """Its thread cannot be cancelled; it may still be waiting for a slow download."""
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while not opening.done() and time.monotonic() < deadline:
            for child in {*multiprocessing.active_children()} - self._others:
                child.kill()  # a core that is being made notes a SIGTERM, and goes on
            await asyncio.wait([opening], timeout=0.2)


def keep_name(request: EngineCoreRequest) -> None:
    """Ours are unique; vLLM would lengthen each by digits of its own, at the cost of a UUID."""
    request.external_req_id = request.request_id


def hint_for(error: Exception) -> str:
    """What may help; vLLM's own sentence does not say it."""
    if "does not support LoRA" in str(error):
        return " Serve it without adapters: --enable-lora false."
    return ""
