import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("schemas.chat_completions", ["app", "litestar", "vllm"]),
        ("app.sampling", ["litestar", "vllm"]),
        ("app.prompts", ["litestar", "vllm"]),
        ("app.replies.chat_completions", ["litestar", "vllm"]),
        ("app.tools.verified", ["litestar", "vllm"]),
        ("app.asgi", ["vllm", "torch"]),
        ("app.adapters.registry", ["litestar", "vllm", "torch"]),
        ("app.images.loader", ["litestar", "vllm"]),
        ("app.cluster.front", ["ray", "vllm", "torch"]),
        ("app.configuration", ["vllm", "torch", "litestar"]),
    ],
)
def test_knowledge_goes_one_way(module: str, forbidden: list[str]) -> None:
    code = f"import sys, {module}; print([m for m in {forbidden!r} if m in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
