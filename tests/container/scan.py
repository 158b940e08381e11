"""What a container of the image does to its surroundings; run inside it, with Python alone:

    podman run --rm -i --cap-drop all --network none --shm-size 1g \
        --entrypoint python slipstream:cpu - < tests/container/scan.py

Starts the image's own command twice, the second time with a model folder that brings code of its
own, and tells who runs, what listens, what was written, and whether that code ran. Ends with 1 if
something is not as it should be.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

PORT = 8000
KEY = "scan"
READY_SECONDS = 600
STOP_SECONDS = 60
LEAVE_SECONDS = 5
CODE = Path("/srv/slipstream")
WRITABLE = ("/cache", "/var/log/slipstream", "/tmp", "/dev", "/proc", "/sys", "/run")
"""Where a server may write: its volumes, and what is no disk."""

LISTENING = "0A"
"""Of proc(5), `/proc/net/tcp`."""

EVIL = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({mark!r}).touch()
class EvilConfig(LlamaConfig): pass
class EvilModel(LlamaForCausalLM): pass
"""


def descendants(pid: int) -> Iterator[int]:
    """The process and all that it started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from descendants(int(child))


def sockets(pid: int) -> Iterator[str]:
    """Inodes of the process' sockets."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith("socket:["):
            yield target[len("socket:[") : -1]


def listeners(pids: list[int]) -> list[str]:
    """Addresses on which they accept TCP, as `address:port`."""
    owned = {inode for pid in pids for inode in sockets(pid)}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in owned:
                found.append(readable(fields[1]))
    return found


def readable(address: str) -> str:
    """The kernel writes each 32 bits of an address in the machine's own order."""
    host, port = address.split(":")
    words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
    text = ".".join(str(byte) for word in words for byte in word)
    return f"{text}:{int(port, 16)}"


def is_loopback(address: str) -> bool:
    return address.startswith(("127.", "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1:"))


def uids(pids: list[int]) -> set[int]:
    return {os.stat(f"/proc/{pid}").st_uid for pid in pids}


def written_since(moment: float) -> list[str]:
    """Files outside of `WRITABLE` that changed."""
    changed = []
    for folder, folders, files in os.walk("/"):
        folders[:] = [
            name
            for name in folders
            if not f"{folder}/{name}".replace("//", "/").startswith(WRITABLE)
        ]
        for name in files:
            path = os.path.join(folder, name)
            if os.path.lexists(path) and os.lstat(path).st_ctime > moment:
                changed.append(path)
    return changed


def answer(path: str, body: dict[str, object] | None = None) -> int:
    """Status of a request with our key; 0 while nothing listens."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{PORT}{path}",
        json.dumps(body).encode() if body else None,
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    try:
        return int(urllib.request.urlopen(request, timeout=60).status)
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return 0


def start(**environment: str) -> "subprocess.Popen[bytes]":
    """The image's own command, until it answers or ends."""
    server = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=CODE,
        env=os.environ | {"LLM_API_KEYS": KEY} | environment,
    )
    deadline = time.monotonic() + READY_SECONDS
    while server.poll() is None and answer("/health/ready") != 200:
        if time.monotonic() > deadline:
            raise SystemExit("The server does not get ready.")
        time.sleep(0.5)
    return server


def stop(server: "subprocess.Popen[bytes]") -> int:
    server.send_signal(signal.SIGTERM)
    return server.wait(STOP_SECONDS)


def left_of(pids: list[int]) -> list[int]:
    """Those that run on; whoever has just been told to end gets a moment."""
    deadline = time.monotonic() + LEAVE_SECONDS
    while (left := [*filter(is_running, pids)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def is_running(pid: int) -> bool:
    """Whether it is there and no zombie, which only waits for whoever takes its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def model_with_code(mark: Path) -> Path:
    """The demo model, whose configuration names classes in a file beside it."""
    folder = Path(tempfile.mkdtemp()) / "model"
    folder.mkdir()
    for file in (CODE / "app/demo/model").iterdir():
        shutil.copyfile(file, folder / file.name)  # the image's own are read-only
    (folder / "evil.py").write_text(EVIL.format(mark=str(mark)))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "evil.EvilConfig",
        "AutoModelForCausalLM": "evil.EvilModel",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def scan_server() -> Iterator[tuple[str, bool]]:
    """What is found, and whether it is as it should be."""
    begun = time.time()
    server = start()
    pids = list(descendants(server.pid))
    status = answer("/chat", {"messages": [{"role": "user", "content": "Hello"}]})
    yield f"answers: {status}", status == 200
    found = uids(pids)
    yield f"uids of {len(pids)} processes: {found}", 0 not in found
    open_to_all = [each for each in listeners(pids) if not is_loopback(each)]
    yield (
        f"listens: {listeners(pids)}",
        [each.split(":")[-1] for each in open_to_all] == [str(PORT)],
    )
    yield f"code is writable: {os.access(CODE, os.W_OK)}", not os.access(CODE, os.W_OK)
    code = stop(server)
    yield f"exit status after SIGTERM: {code}", code == 0
    left = left_of(pids)
    yield f"processes left: {left}", not left
    changed = written_since(begun)
    yield f"written outside of its volumes: {changed}", not changed


def scan_model_with_code() -> Iterator[tuple[str, bool]]:
    mark = Path(tempfile.mkdtemp()) / "pwned"
    server = start(LLM_MODEL=str(model_with_code(mark)))
    told = "serves without" if server.poll() is None else f"ends with {server.returncode}"
    if server.poll() is None:
        stop(server)
    yield f"a model's own code: {told} it, code ran: {mark.exists()}", not mark.exists()


def main() -> int:
    failed = 0
    for scan in (scan_server, scan_model_with_code):
        for text, is_right in scan():
            print("ok  " if is_right else "BAD ", text, flush=True)
            failed += not is_right
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
