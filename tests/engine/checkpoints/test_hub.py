import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import arange

from app.engine.checkpoints.checkpoint import resolve_checkpoint
from app.engine.checkpoints.hub import Repository, choose
from app.engine.checkpoints.unusable import CheckpointUnusable
from app.settings import Settings
from tests.engine.checkpoints.fake_hub import MODEL, FakeHub, running_hub

WEIGHTS = "model.safetensors"


@pytest.fixture
def offered(tmp_path: Path) -> Path:
    """A model's files as they lie on a hub, and some that nobody needs."""
    folder = tmp_path / "offered"
    (folder / "original").mkdir(parents=True)
    # Larger than the pieces of 10 MB in which Hugging Face's client writes.
    save_file({"weights": arange(3_000_000)}, folder / WEIGHTS)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "original" / "config.json").write_text("{}")
    return folder


@pytest.fixture(params=["huggingface", "modelscope"])
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return Settings(model=MODEL, hub=request.param)


@pytest.fixture
def hub(offered: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running_hub(offered) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.url)
        yield running


def test_a_model_is_downloaded_without_what_nobody_needs(hub: FakeHub, settings: Settings) -> None:
    stream = io.StringIO()

    folder = Path(resolve_checkpoint(settings, stream)["model"])

    assert {path.name for path in folder.iterdir()} == {
        WEIGHTS,
        "config.json",
        "tokenizer.json",
    }
    assert (folder / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()
    assert f"{MODEL}: 100 % of 24.0MB" in stream.getvalue()


def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    hub: FakeHub, settings: Settings
) -> None:
    hub.breaks.add(WEIGHTS)

    folder = Path(resolve_checkpoint(settings, io.StringIO())["model"])

    starts = [first for path, first in hub.fetched if path == WEIGHTS]
    assert starts[0] == 0
    assert starts[-1] > 0
    assert (folder / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()


def test_without_a_network_what_was_downloaded_is_used(
    hub: FakeHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded = resolve_checkpoint(settings, io.StringIO())
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")

    assert resolve_checkpoint(settings, io.StringIO()) == downloaded


def test_without_a_network_what_is_not_there_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")

    with pytest.raises(CheckpointUnusable, match="was not downloaded before, and the hub cannot"):
        resolve_checkpoint(settings, io.StringIO())


@pytest.mark.usefixtures("hub")
def test_an_unknown_model_is_told(settings: Settings) -> None:
    unknown = Settings(model="somebody/nothing", hub=settings.hub)

    with pytest.raises(CheckpointUnusable, match="no folder and no model somebody/nothing"):
        resolve_checkpoint(unknown, io.StringIO())


def test_pickled_weights_are_never_downloaded(hub: FakeHub, settings: Settings) -> None:
    (hub.folder / WEIGHTS).unlink()

    with pytest.raises(CheckpointUnusable, match="weights as pickles only"):
        resolve_checkpoint(settings, io.StringIO())

    assert hub.fetched == []


def test_a_gguf_file_is_chosen_by_its_quantization() -> None:
    files = ["README.md", "x-Q8_0.gguf", "x-Q4_K_M.gguf", "mmproj-Q4_K_M.gguf"]

    assert choose(files, Repository(name=MODEL, gguf="q4_k_m")) == ["x-Q4_K_M.gguf"]
    assert choose(files, Repository(name=MODEL, gguf="x-Q8_0.gguf")) == ["x-Q8_0.gguf"]
    with pytest.raises(CheckpointUnusable, match=r"no GGUF file Q4_K; it has x-Q4_K_M.gguf, x-Q8"):
        choose(files, Repository(name=MODEL, gguf="Q4_K"))


def test_a_part_of_a_gguf_file_is_refused() -> None:
    with pytest.raises(CheckpointUnusable, match="join the parts"):
        choose(["x-Q8_0-00001-of-00002.gguf"], Repository(name=MODEL, gguf="Q8_0"))


def test_weights_in_two_formats_are_fetched_once() -> None:
    files = ["config.json", "consolidated.safetensors", "model-1.safetensors", "sub/x.safetensors"]

    assert choose(files, Repository(name=MODEL)) == ["model-1.safetensors", "config.json"]


def test_code_is_fetched_only_where_it_may_run() -> None:
    files = ["config.json", "model.safetensors", "modeling.py"]

    assert "modeling.py" not in choose(files, Repository(name=MODEL))
    assert "modeling.py" in choose(files, Repository(name=MODEL, code=True))
