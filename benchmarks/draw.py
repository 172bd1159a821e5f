"""Draws what is kept in benchmarks/results: tables of latencies and of quality, and plots.

    python benchmarks/draw.py            the tables between their marks in README.md and docs/freedoom.md; plots
    python benchmarks/draw.py --print    prints the tables, changes nothing

The plots are docs/media/scaling-*.svg, how a frame's time grows, and docs/media/frontier-*.svg, quality against time.
Nothing is typed by hand: every figure comes from a report that a benchmark kept with --json, and the machine, the
date and the command that measured it stand beside it.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this checkout, wherever it is started from

BEGIN, END = "<!-- benchmarks: drawn by benchmarks/draw.py -->", "<!-- benchmarks: end -->"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def put(page: str, table: str, name: str) -> str:
    """The page with the table between its marks.

    Raises:
        DiamondError: the page has no marks.
    """
    from engine.errors import DiamondError

    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DiamondError(f"{name}: no place for the table", f"the lines {BEGIN} and {END}", "add both")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


@app.command()
def draw(
    results: Annotated[Path | None, typer.Option(help="folder of kept reports")] = None,
    readme: Annotated[Path, typer.Option(help="page of the latencies")] = ROOT / "README.md",
    page: Annotated[Path, typer.Option(help="page of the quality of the world of its name")] = ROOT
    / "docs"
    / "freedoom.md",
    media: Annotated[Path, typer.Option(help="folder of the plots")] = ROOT / "docs" / "media",
    only_print: Annotated[bool, typer.Option("--print", help="print the tables, change nothing")] = False,
) -> None:
    """Draw the tables and the plots."""
    from benchmarks.pictures import latency_table, scaling_panels
    from benchmarks.quality_page import frontier_panels, quality_section
    from benchmarks.results import RESULTS, machines
    from benchmarks.svg import draw as draw_svg
    from engine.errors import DiamondError
    from engine.whole_file import WholeFile

    found = machines(results or RESULTS)
    if not found:
        raise DiamondError(
            f"{results or RESULTS}: no report is kept there",
            "files that --json wrote",
            "python benchmarks/latency.py --json benchmarks/results/MACHINE.json",
        )
    tables = {readme: latency_table(found), page: quality_section(found, page.stem, media.name)}
    tables = {file: table for file, table in tables.items() if table}
    if only_print:
        print("\n\n".join(tables.values()))
        return
    files = {file: put(file.read_text("utf-8"), table, file.name) for file, table in tables.items()}
    for name, panels, caption in scaling_panels(found):
        files[media / f"scaling-{name}.svg"] = draw_svg(panels, caption)
    for name, panels, caption in frontier_panels(found):
        files[media / f"frontier-{name}.svg"] = draw_svg(panels, caption, columns=2)
    for file, text in files.items():
        with WholeFile(file) as output:
            output.file.write(text.encode())
    print("drawn: " + ", ".join(map(str, files)))


def main() -> None:
    """The command line."""
    from engine.errors import run_cli

    run_cli(app)


if __name__ == "__main__":
    main()
