"""What became of the load of one block, by whoever made it."""

import msgspec


class WrongAnswers(RuntimeError):
    """A frontend that answers wrongly is not measured."""


class Tally(msgspec.Struct):
    """Complete replies, their pieces of text, and how many were not as they should be."""

    seconds: float
    replies: int = 0
    events: int = 0
    wrong: int = 0
    broken: int = 0
    complaint: str = ""

    def check(self, name: str) -> None:
        """Raises WrongAnswers."""
        if self.wrong or self.broken or not self.replies:
            raise WrongAnswers(
                f"{name}: of {self.replies} replies {self.wrong} were wrong, {self.broken} broken;"
                f" the first: {self.complaint}"
            )
