"""vLLM's exceptions as ours."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from vllm.exceptions import GracefulHTTPError, VLLMClientError, VLLMError
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from app.errors import EngineDead, GenerationFailed, InvalidRequest, Overloaded, ServerError

logger = logging.getLogger(__name__)

VLLM_ERRORS = (VLLMError, EngineDeadError, EngineGenerateError)


@contextmanager
def translated() -> Iterator[None]:
    """For calls into the engine's core, whose failures come back as a bare Exception."""
    try:
        yield
    except ServerError:
        raise
    except Exception as error:
        raise translate(error) from error


def translate(error: Exception) -> ServerError:
    """What neither of us knows is logged and told as a failed generation."""
    match error:
        case EngineDeadError():
            return EngineDead("The engine has died.")
        case GracefulHTTPError():
            return Overloaded("The engine's queue is full.")
        case VLLMClientError():
            return InvalidRequest(
                f"{str(error).rstrip('.')}.", param=getattr(error, "parameter", None)
            )
        case _:
            logger.error("generation failed", exc_info=error)
            return GenerationFailed("The generation failed.")
