"""Kept reports: one JSON file a machine, one report a subject. A newer report of the same subject replaces the older.

{"machine": {"cpu": ..., "cores": ..., ...}, "reports": [{"benchmark": "latency", ...}, ...]}
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import DiamondError
from engine.whole_file import WholeFile

RESULTS = Path(__file__).with_name("results")
_FORMAT = {"machine", "reports"}


def subject(report: Mapping[str, Any]) -> tuple[str, ...]:
    """What a report is about: benchmark, world, configuration."""
    return (report["benchmark"], report["world"], report["config"])


def keep(report: Mapping[str, Any], file: Path) -> None:
    """Puts a report into a file, which need not exist.

    Raises:
        DiamondError: the file is something else, holds another machine's reports, or cannot be written.
    """
    machine = report["hardware"]
    kept: list[Mapping[str, Any]] = []
    if file.exists():
        document = read(file)
        if any(document["machine"].get(name) != machine[name] for name in ("cpu", "cores")):
            raise DiamondError(
                f"--json {file}: holds reports of another machine, {document['machine'].get('cpu')}",
                f"reports of this one, {machine['cpu']}, {machine['cores']} cores",
                "choose another file: one a machine",
            )
        kept = [old for old in document["reports"] if subject(old) != subject(report)]
    document = {"machine": machine, "reports": sorted([*kept, report], key=subject)}
    with WholeFile(file) as output:
        output.file.write((json.dumps(document, indent=1) + "\n").encode())


def read(file: Path) -> dict[str, Any]:
    """A file as `keep` writes it.

    Raises:
        DiamondError: it is something else.
    """
    try:
        document = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DiamondError(f"{file}: cannot be read: {error}", "a file that --json wrote") from error
    if not isinstance(document, dict) or set(document) != _FORMAT:
        raise DiamondError(f"{file}: holds something else", f"a file that --json wrote: {sorted(_FORMAT)}")
    return document


def machines(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Every file of kept reports in a folder, by name; other files there are left alone."""
    found = []
    for file in sorted(folder.glob("*.json")):
        document = json.loads(file.read_text("utf-8"))
        if isinstance(document, dict) and set(document) == _FORMAT:
            found.append({"name": file.stem, **document})
    return found
