"""Progress, said beside the report: a report goes to standard output, and its last line is JSON."""

import sys


def say(line: str) -> None:
    """One line on standard error, at once."""
    print(line, file=sys.stderr, flush=True)
