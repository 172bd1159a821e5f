"""Draws what is kept in benchmarks/results: the README's table of latencies, and plots of how they scale.

    python benchmarks/draw.py            the table between its marks in README.md, and docs/media/scaling-*.svg
    python benchmarks/draw.py --print    prints the table, changes nothing

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
    readme: Annotated[Path, typer.Option(help="page whose table is replaced")] = ROOT / "README.md",
    plot: Annotated[Path, typer.Option(help="SVG to write, a name for each report behind its stem")] = ROOT
    / "docs"
    / "media"
    / "scaling.svg",
    only_print: Annotated[bool, typer.Option("--print", help="print the table, change nothing")] = False,
) -> None:
    """Draw the table and the plots."""
    from benchmarks.pictures import latency_table, scaling_panels
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
    table = latency_table(found)
    if only_print:
        print(table)
        return
    pages = {readme: put(readme.read_text("utf-8"), table, readme.name)}
    for name, panels, caption in scaling_panels(found):
        pages[plot.with_stem(f"{plot.stem}-{name}")] = draw_svg(panels, caption)
    for file, text in pages.items():
        with WholeFile(file) as output:
            output.file.write(text.encode())
    print("drawn: " + ", ".join(map(str, pages)))


def main() -> None:
    """The command line."""
    from engine.errors import run_cli

    run_cli(app)


if __name__ == "__main__":
    main()
