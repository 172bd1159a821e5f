"""The one error a user may see, and the door every command line leaves by.

Whatever a person can put right (a missing file, a stale bundle, a wrong option) raises `DiamondError`, which
answers three questions: what was wrong, what was expected, what to do next. Every other exception is a defect
of this project and keeps its traceback. This module knows nothing of typer: `run_cli` takes any callable.
"""

import sys
import traceback
from collections.abc import Callable

EXIT_DEFECT = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


class DiamondError(Exception):
    """A failure that the user can put right.

    Args:
        what: what was wrong, naming the file, field or argument.
        expected: what would have been accepted; may be empty.
        fix: what to do next; may be empty.

    `str(error)` joins the three, one line each.
    """

    def __init__(self, what: str, expected: str = "", fix: str = "") -> None:
        self.what, self.expected, self.fix = what, expected, fix
        super().__init__(what, expected, fix)  # all three in args, so that the error survives pickling

    def __str__(self) -> str:
        lines = [_sentence(self.what)]
        if self.expected:
            lines.append("Expected: " + _sentence(self.expected))
        if self.fix:
            lines.append("Fix: " + _sentence(self.fix))
        return "\n".join(lines)


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", ":")) else text + "."


def run_cli(app: Callable[[], object], extra: str = "") -> None:
    """Runs a command-line program and turns how it ended into an exit code.

    Args:
        app: a callable without arguments, such as a typer or click application, which reads `sys.argv`
            itself.
        extra: the extra of this package that brings what the program imports beyond the core; a missing library
            is then the user's to install, not a defect.

    Raises:
        SystemExit: 2 for a `DiamondError` (one message on stderr, no traceback), 130 for Ctrl-C, 1 with a
            traceback for anything else; a `SystemExit` of the application itself (usage errors: 2) passes
            through. Returns normally when the application does.
    """
    try:
        app()
    except DiamondError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if not extra or library in ("engine", "train", "export"):
            traceback.print_exc()
            sys.exit(EXIT_DEFECT)
        fix = f"pip install 'diamond-engine[{extra}]'"
        print(f"error: {DiamondError(f'the library {library} is not installed', '', fix)}", file=sys.stderr)
        sys.exit(EXIT_USER)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except Exception:
        traceback.print_exc()
        sys.exit(EXIT_DEFECT)
