import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.engine.custom_models import MODEL_MODULE, register_custom_models
from app.errors import EngineDead


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that can be imported as `a_model`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(MODEL_MODULE, "a_model")
    yield tmp_path / "a_model.py"
    sys.modules.pop("a_model", None)


def test_the_module_is_asked_to_register(module: Path) -> None:
    module.write_text("calls = []\ndef register(): calls.append(1)\n")

    register_custom_models()
    register_custom_models()

    assert sys.modules["a_model"].calls == [1, 1]


def test_without_a_module_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODEL_MODULE, raising=False)

    register_custom_models()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import no_such_package\n", "a_model cannot be imported: No module named 'no_such"),
        ("", "a_model has no function `register`"),
    ],
)
def test_a_module_that_cannot_register_is_told(module: Path, text: str, sentence: str) -> None:
    module.write_text(text)

    with pytest.raises(EngineDead, match=sentence):
        register_custom_models()
