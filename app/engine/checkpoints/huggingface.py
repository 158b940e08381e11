"""Hugging Face behind `hub.Hub`: the only place that knows huggingface_hub and its errors.

It reads HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE by itself.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm  # type: ignore[import-untyped]

from app.engine.checkpoints.child import Report
from app.engine.checkpoints.folder import checked
from app.engine.checkpoints.hub import HubUnreachable
from app.engine.checkpoints.unusable import CheckpointUnusable, first_line


class HuggingFace:
    """See `hub.Hub`."""

    def sizes(self, name: str, revision: str | None) -> Mapping[str, int]:
        with told(name, revision):
            info = HfApi().model_info(name, revision=revision, files_metadata=True)
        return {file.rfilename: file.size or 0 for file in info.siblings or ()}

    def download(
        self, name: str, revision: str | None, files: Mapping[str, int], report: Report
    ) -> Path:
        with told(name, revision):
            folder = snapshot_download(
                name,
                revision=revision,
                allow_patterns=[escape(file) for file in files],
                tqdm_class=bar_class(report, sum(files.values())),
            )
        return Path(folder)

    def cached(self, name: str, revision: str | None) -> Path:
        try:
            return Path(snapshot_download(name, revision=revision, local_files_only=True))
        except IncompleteSnapshotError as error:
            # By its count: it holds what was chosen, and `checked` knows whether that is enough.
            return checked(Path(error.snapshot_path))
        except LocalEntryNotFoundError as error:
            raise HubUnreachable(first_line(error)) from error


@contextmanager
def told(name: str, revision: str | None) -> Iterator[None]:
    """The hub's errors in our words."""
    try:
        yield
    except GatedRepoError as error:
        raise CheckpointUnusable(
            f"{name} is gated: accept its terms at {constants.ENDPOINT}/{name} and set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointUnusable(
            f"There is no folder and no model {name} at {constants.ENDPOINT}, or it is private and "
            "HF_TOKEN does not open it."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointUnusable(f"{name} has no revision {revision}.") from error
    except HFValidationError as error:
        raise CheckpointUnusable(f"{name} is neither a folder nor a model's id.") from error
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, httpx2.TransportError) as error:
        offline = isinstance(error, OfflineModeIsEnabled)
        reason = "HF_HUB_OFFLINE is set" if offline else f"no answer from {constants.ENDPOINT}"
        raise HubUnreachable(reason) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise CheckpointUnusable(
            f"{constants.ENDPOINT} answered {status} when asked for {name}."
        ) from error
    except OSError as error:
        raise CheckpointUnusable(
            f"{name} could not be written to {constants.HF_HUB_CACHE}: "
            f"{error.strerror or first_line(error)}. HF_HOME names another place."
        ) from error


def bar_class(report: Report, total: int) -> type[Any]:
    """What snapshot_download takes for a progress bar: it reports bytes and draws nothing."""

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._nowhere = open(os.devnull, "w")  # noqa: SIM115 (as long as the bar)
            super().__init__(*args, **{**kwargs, "file": self._nowhere})

        def update(self, n: float | None = 1) -> bool | None:
            drawn: bool | None = super().update(n)
            if self.unit == "B":
                report(min(int(self.n), total), total)
            return drawn

    return Bar
