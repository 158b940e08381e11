"""A real redis-server: the one on PATH, else Debian's packages, unpacked without being root."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.ports import free_port

PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipstream-tests/redis"
DOWNLOAD_SECONDS = 120
START_SECONDS = 10


class NoRedis(Exception):
    """There is none here, and none to be had."""


class RedisServer:
    """One server on a port of its own, without files."""

    def __init__(self, binary: str, libraries: Path | None, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._command += options
        self._environment = dict(os.environ)
        if libraries:
            self._environment["LD_LIBRARY_PATH"] = str(libraries)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            cwd="/",
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                assert self.command("PING") == "+PONG"
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise NoRedis("redis-server does not start") from None
                time.sleep(0.01)

    def command(self, *words: str) -> str:
        """The first line of what it answers."""
        with closing(socket.create_connection(("127.0.0.1", self.port), 5)) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            with connection.makefile("rb") as lines:
                return lines.readline().decode().strip()

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def running_redis(*options: str) -> Iterator[RedisServer]:
    """Raises NoRedis."""
    server = RedisServer(*find_redis(), *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def find_redis() -> tuple[str, Path | None]:
    """The binary, and the folder of its libraries if they are not the system's. Raises NoRedis."""
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found, None
    if not list(CACHE.glob("usr/bin/redis-server")):
        unpack_packages()
    libraries = next(CACHE.glob("usr/lib/*/libjemalloc.so.2"))
    return str(CACHE / "usr/bin/redis-server"), libraries.parent


def unpack_packages() -> None:
    """From Debian's or Ubuntu's archive; nothing is installed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NoRedis("there is no redis-server on PATH, and this is no Debian to get one from")
    folder = CACHE.with_name("packages")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        download(folder)
        partial = CACHE.with_name(f"partial-{os.getpid()}")
        for package in folder.glob("*.deb"):
            run(folder, "dpkg-deb", "--extract", str(package), str(partial))
        partial.rename(CACHE)
    except (subprocess.SubprocessError, OSError) as error:
        raise NoRedis(f"there is no redis-server on PATH, and none to be had: {error}") from error


def download(folder: Path) -> None:
    """With the system's lists of packages; on a machine that has none, with lists of our own."""
    own = ["-o", f"Dir::State={folder}", "-o", f"Dir::Cache={folder}", "-o", "Debug::NoLocking=1"]
    own += ["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Sandbox::User="]
    try:
        run(folder, "apt-get", "download", *PACKAGES)
    except subprocess.CalledProcessError:
        (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
        run(folder, "apt-get", *own, "update")
        run(folder, "apt-get", *own, "download", *PACKAGES)


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=DOWNLOAD_SECONDS)
