"""ModelScope behind `hub.Hub`: the only place that knows its package and its errors.

It reads MODELSCOPE_CACHE, MODELSCOPE_ENDPOINT and MODELSCOPE_API_TOKEN by itself.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, Final

import requests
from modelscope_hub import HubApi, ProgressCallback
from modelscope_hub.errors import (
    APIError,
    AuthenticationError,
    CacheError,
    HubError,
    NetworkError,
    NotExistError,
    PermissionDeniedError,
)

from app.engine.checkpoints.child import Report
from app.engine.checkpoints.hub import HubUnreachable
from app.engine.checkpoints.unusable import CheckpointUnusable, first_line

KIND: Final = "model"


class ModelScope:
    """See `hub.Hub`."""

    def __init__(self) -> None:
        self._api = HubApi()

    def sizes(self, name: str, revision: str | None) -> Mapping[str, int]:
        with told(name):
            files = self._api.list_repo_files(name, KIND, revision=revision)
        return {file.path: file.size for file in files if file.type != "tree"}

    def download(
        self, name: str, revision: str | None, files: Mapping[str, int], report: Report
    ) -> Path:
        with told(name):
            return Path(
                self._api.download_repo(
                    name,
                    KIND,
                    revision=revision,
                    allow_patterns=[escape(file) for file in files],
                    progress_callbacks=[callback_class(report, sum(files.values()))],
                )
            )

    def cached(self, name: str, revision: str | None) -> Path:
        try:
            return Path(
                self._api.download_repo(name, KIND, revision=revision, local_files_only=True)
            )
        except (HubError, OSError) as error:
            raise HubUnreachable(first_line(error)) from error


@contextmanager
def told(name: str) -> Iterator[None]:
    """The hub's errors in our words."""
    try:
        yield
    except (NotExistError, AuthenticationError, PermissionDeniedError) as error:
        raise CheckpointUnusable(
            f"There is no folder and no model {name} on ModelScope, or it is private and "
            "MODELSCOPE_API_TOKEN does not open it."
        ) from error
    except (NetworkError, requests.ConnectionError, requests.Timeout) as error:
        raise HubUnreachable("no answer from ModelScope") from error
    except CacheError as error:
        raise HubUnreachable(first_line(error)) from error
    except APIError as error:
        raise CheckpointUnusable(
            f"ModelScope, asked for {name}, answered: {first_line(error)}."
        ) from error
    except (HubError, OSError) as error:
        raise CheckpointUnusable(
            f"{name} could not be downloaded: {first_line(error)}. MODELSCOPE_CACHE names another "
            "place for it."
        ) from error


def callback_class(report: Report, total: int) -> type[Any]:
    """What download_repo makes one of for each file: it adds up the bytes of all."""
    lock = threading.Lock()
    done = 0

    class Callback(ProgressCallback):
        def update(self, size: int) -> None:
            nonlocal done
            with lock:
                done += size
                report(min(done, total), total)

    return Callback
