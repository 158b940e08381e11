"""The one error of this package: a sentence for whoever started the server."""

from app.errors import EngineError


class CheckpointUnusable(EngineError):
    """The model's files are missing, damaged or of a kind that cannot be loaded."""

    code = "checkpoint_unusable"


def first_line(error: BaseException) -> str:
    """What an error of some library says, without its paragraphs of advice, without a full stop."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
