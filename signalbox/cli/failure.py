"""Errors of the command line, and the exit codes."""

DONE = 0
FAILED = 1
PENDING = 2
"""Changes are pending (`plan`)."""

USAGE = 3


class Failure(Exception):
    """Ends the command: a sentence about the error, and a hint about the remedy."""

    def __init__(self, message: str, hint: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
