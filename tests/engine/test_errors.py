"""The one user-facing error, and the exit codes."""

import pickle

import pytest

from engine.errors import DiamondError, run_cli


def raiser(error: BaseException):  # type: ignore[no-untyped-def]
    def app() -> None:
        raise error

    return app


def test_the_message_answers_three_questions_on_three_lines() -> None:
    error = DiamondError("history: got float32", "float16", "export with --precision fp32")
    assert str(error).splitlines() == [
        "history: got float32.",
        "Expected: float16.",
        "Fix: export with --precision fp32.",
    ]
    assert str(DiamondError("no such world!")) == "no such world!"


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(DiamondError("a", "b", "c")))
    assert (error.what, error.expected, error.fix) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (DiamondError("no world", "a directory", "name one"), 2, "error: no world.\nExpected: a directory."),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("a defect"), 1, "ValueError: a defect"),
        (SystemExit(2), 2, ""),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run_cli(raiser(error))
    assert exit_.value.code == code
    stderr = capsys.readouterr().err
    assert printed in stderr
    assert ("Traceback" in stderr) == (code == 1)


def test_a_program_that_ends_well_returns() -> None:
    assert run_cli(lambda: 0) is None  # type: ignore[func-returns-value]
