"""diamond-export: a thin door to the exporter.

diamond-export RUN --out WORLD        then: diamond-play WORLD
"""

from pathlib import Path
from typing import Annotated

import typer

from engine.errors import run_cli

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="run directory, as diamond-train --out wrote it")],
    out: Annotated[Path, typer.Option(help="directory of the world to write")],
    precision: Annotated[str, typer.Option(help="of weights and arithmetic: fp32")] = "fp32",
    spawns: Annotated[int, typer.Option(help="places to start from, picked from held-out episodes")] = 8,
    first_spawn: Annotated[
        int, typer.Option(help="which of them comes first and gives the demonstration")
    ] = 0,
    data: Annotated[
        Path | None, typer.Option(help="recordings; left out: those the run was trained on")
    ] = None,
    name: Annotated[str | None, typer.Option(help="the world's name; left out: the recipe's")] = None,
    title: Annotated[str | None, typer.Option(help="the world's title for people")] = None,
    notice: Annotated[
        Path | None, typer.Option(help="licence or notice of the game, put into the world")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a world that is there already")] = False,
) -> None:
    """Turn a trained run into a world to play, verified against PyTorch."""
    from export.from_run import ExportConfig, export_run

    export_run(ExportConfig(run, out, precision, spawns, first_spawn, data, name, title, notice, force))


def main() -> None:
    """The console script."""
    run_cli(app, extra="export")


if __name__ == "__main__":
    main()
