"""An engine for several clients, none of which is in this process: started, watched, stopped."""

from typing import TextIO

from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.utils import (
    CoreEngineProcManager,
    EngineZmqAddresses,
    get_engine_zmq_bind_addresses,
    launch_core_engines,
)
from vllm.v1.executor import Executor

from app.engine.arguments import engine_arguments
from app.engine.attached import shared_arguments
from app.engine.checkpoints.checkpoint import resolve_checkpoint
from app.engine.checkpoints.int8 import register_int8
from app.engine.custom_models import register_custom_models
from app.engine.place import Place
from app.engine.segments import remove_segments, segments_of
from app.settings import Settings

STOP_TIMEOUT_SECONDS = 5.0


class Cores:
    """Processes of one engine that runs, and where its clients meet it."""

    def __init__(
        self, running: CoreEngineProcManager, addresses: EngineZmqAddresses, files: dict[str, str]
    ) -> None:
        self._running = running
        self._addresses = addresses
        self._files = files
        self._segments = segments_of(each.pid for each in running.processes)

    @property
    def sentinels(self) -> list[int]:
        """File descriptors; one is readable when its process has ended."""
        return [each.sentinel for each in self._running.processes]

    def places(self) -> list[Place]:
        meetings = zip(self._addresses.inputs, self._addresses.outputs, strict=True)
        count = len(self._addresses.inputs)
        return [Place(i, count, *meeting, self._files) for i, meeting in enumerate(meetings)]

    def close(self) -> None:
        """Stop them. Blocks for a few seconds at most."""
        self._running.shutdown(timeout=STOP_TIMEOUT_SECONDS)
        remove_segments(self._segments)


def launch(settings: Settings, terminal: TextIO) -> Cores:
    """Find the model, load it, and wait for that. Blocks; raises whatever goes wrong.

    Clients need not be there yet: what the engine says to them first waits for them.
    """
    register_custom_models()
    register_int8()
    files = resolve_checkpoint(settings, terminal)
    arguments = shared_arguments(engine_arguments(settings, files), settings.frontends, -1)
    config = arguments.create_engine_config(UsageContext.ENGINE_CONTEXT)
    meetings = get_engine_zmq_bind_addresses(config, settings.frontends)
    addresses = EngineZmqAddresses(inputs=meetings.inputs, outputs=meetings.outputs)
    with launch_core_engines(config, Executor.get_class(config), True, addresses) as launched:
        pass
    return Cores(launched.engine_manager, addresses, files)
