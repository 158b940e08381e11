import io
import os
import threading
from pathlib import Path

import pytest
from safetensors.torch import load_file

from app.demo import DEMO_MODEL_PATH
from app.engine.checkpoints import checkpoint
from app.engine.checkpoints.checkpoint import resolve_checkpoint
from app.engine.checkpoints.gguf_conversion import Conversion, convert
from app.settings import Settings
from tests.engine.checkpoints.demo_gguf import silent, write_demo_gguf


def test_a_file_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = Settings(model=str(write_demo_gguf(tmp_path / "demo.gguf")))
    first, second = io.StringIO(), io.StringIO()

    found = resolve_checkpoint(settings, first)

    assert "demo.gguf: 100 % of" in first.getvalue()
    assert resolve_checkpoint(settings, second) == found
    assert second.getvalue() == ""


def test_another_file_of_the_same_name_and_size_is_another_model(tmp_path: Path) -> None:
    path = write_demo_gguf(tmp_path / "demo.gguf")
    conversion = Conversion(source=path, cache=tmp_path)
    before, times = conversion.folder, path.stat()

    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert conversion.folder != before


def test_what_an_interrupted_conversion_left_is_no_result(tmp_path: Path) -> None:
    path = write_demo_gguf(tmp_path / "demo.gguf")
    conversion = Conversion(source=path, cache=tmp_path / "cache")
    partial = conversion.folder.with_name(f"{conversion.folder.name}.partial")
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(b"half")

    folder = convert(silent, conversion)

    assert (
        load_file(folder / "model.safetensors").keys()
        == load_file(DEMO_MODEL_PATH / "model.safetensors").keys()
    )
    assert not partial.exists()


def test_starts_at_the_same_time_convert_once(tmp_path: Path) -> None:
    path = write_demo_gguf(tmp_path / "demo.gguf")
    conversion = Conversion(source=path, cache=tmp_path / "cache")
    reports: list[int] = []
    found: list[Path] = []

    def start() -> None:
        found.append(convert(lambda done, total: reports.append(done), conversion))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [conversion.folder] * 2
    assert len(reports) == len(set(reports))


def test_where_vllm_reads_gguf_itself_it_gets_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(checkpoint.current_platform, "is_cuda", lambda: True)
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: name == "vllm_gguf_plugin")
    path = write_demo_gguf(tmp_path / "demo.gguf")

    found = resolve_checkpoint(Settings(model=str(path)), io.StringIO())

    assert found["model"] == str(path)
    assert found["tokenizer"] == found["hf_config_path"]
    names = {each.name for each in Path(found["tokenizer"]).iterdir()}
    assert {"config.json", "tokenizer.json"} <= names
    assert "model.safetensors" not in names
