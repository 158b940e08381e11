"""Load over HTTP by wrk, which checks every reply in `load.lua`."""

import subprocess
from pathlib import Path

import msgspec

from tests.bench.standin.asks import Asks
from tests.bench.standin.measure import OTHERS_CORE, pin
from tests.bench.standin.tally import Tally

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_SECONDS = 60


def run_wrk(url: str, table: Path, connections: int, seconds: float) -> Tally:
    """Every connection asks again as soon as it has its answer. Raises RuntimeError.

    `table`: written by `write_table`.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s"]
    command += ["--timeout", f"{TIMEOUT_SECONDS}s", "-s", str(SCRIPT)]
    command += [f"{url}/v1/chat/completions", "--", str(table)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    pin(process.pid, OTHERS_CORE)
    said = process.communicate()[0]
    lines = [line for line in said.splitlines() if line.startswith(b'{"replies"')]
    if not lines:
        raise RuntimeError(f"wrk failed: {said.decode(errors='replace')}")
    return msgspec.json.decode(lines[-1], type=Tally)


def write_table(asks: Asks, path: Path) -> Path:
    """What `load.lua` reads: bodies, and the set of texts that may come back."""
    bodies = ",\n".join(f"[==[{each.body}]==]" for each in asks.asks)
    texts = ",\n".join(f"[ [==[{each.text}]==] ]=true" for each in asks.asks)
    stream = str(asks.stream).lower()
    path.write_text(
        f"return {{stream={stream}, tokens={asks.num_tokens},\n"
        f"bodies={{{bodies}}},\ntexts={{{texts}}}}}\n"
    )
    return path
