"""Any module of a server run under a CallCounter.

`python -m tests.bench.standin.counted FILE MODULE [ARGUMENT ...]`: SIGUSR1 begins to count the
calls of the main thread, where the event loop runs; SIGUSR2 ends it and writes them to FILE.
"""

import runpy
import signal
import sys
from pathlib import Path

import msgspec

from tests.bench.standin.calls import CallCounter


def main() -> None:
    result, module = Path(sys.argv[1]), sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    counter = CallCounter()
    signal.signal(signal.SIGUSR1, lambda *_: counter.start())
    signal.signal(signal.SIGUSR2, lambda *_: write(counter, result))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def write(counter: CallCounter, result: Path) -> None:
    """All at once: whoever waits for the file must not read half of it."""
    draft = result.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(counter.stop()))
    draft.replace(result)


if __name__ == "__main__":
    main()
