"""Names read off vLLM's source are those of its class."""

import dataclasses
import warnings

from app.engine.argument_names import known_arguments

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from vllm.engine.arg_utils import AsyncEngineArgs


def test_every_engine_argument_is_known_and_no_other() -> None:
    assert known_arguments() == {field.name for field in dataclasses.fields(AsyncEngineArgs)}
