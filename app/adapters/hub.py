"""A hub id to a local folder of an adapter's two files, downloaded if need be."""

from pathlib import Path

import msgspec
from httpx2 import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from app.adapters.source import FILES, WEIGHTS_FILE, Source
from app.errors import AdapterNotFound, AdapterUnusable, HubUnreachable

ABSENT = (EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError)


def pinned_to_commit(source: Source, max_bytes: int) -> Source:
    """The source at the commit that its revision means now, downloaded.

    Blocks. Raises AdapterNotFound, AdapterUnusable and HubUnreachable.
    """
    try:
        check_remote_size(source, max_bytes)
    except ABSENT as error:
        raise absent(source) from error
    except (HTTPError, OSError):
        pass  # A hub that cannot be reached may have been, when this was cached.
    return msgspec.structs.replace(source, revision=download(source).name)


def check_remote_size(source: Source, max_bytes: int) -> None:
    """Ask for the size before the download."""
    info = HfApi().model_info(
        source.location, revision=source.revision or None, files_metadata=True
    )
    for file in info.siblings or ():
        if file.rfilename == WEIGHTS_FILE and (file.size or 0) > max_bytes:
            raise AdapterUnusable(
                f"{source.location!r} has {file.size} bytes of weights; "
                f"at most {max_bytes} are loaded."
            )


def download(source: Source) -> Path:
    """The folder in the hub's cache, named after the commit; what is there is not fetched again.

    Blocks. Raises AdapterNotFound and HubUnreachable.
    """
    api, revision = HfApi(), source.revision or None
    try:
        paths = [
            Path(api.hf_hub_download(source.location, name, revision=revision)) for name in FILES
        ]
    except LocalEntryNotFoundError as error:
        raise HubUnreachable("The hub did not answer, and the adapter is not cached.") from error
    except ABSENT as error:
        raise absent(source) from error
    except (HTTPError, OSError) as error:
        raise HubUnreachable("The hub did not answer.") from error
    return paths[0].parent


def absent(source: Source) -> AdapterNotFound:
    return AdapterNotFound(
        f"The hub has no {source.location!r} with {' and '.join(FILES)} for this server.",
        param="repo",
    )
