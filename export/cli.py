"""diamond-export: a thin door to the exporter.

diamond-export csgo                       the published world: fetched, converted, verified; then: diamond-play csgo
diamond-export --precision fp16           more precisions of a world that is here
diamond-export csgo --precision fp16 --target trt      TensorRT plans of them, too, for the GPU of this machine
diamond-export --precision bf16 --target torch         ... or programs of PyTorch, compiled for this machine
diamond-export RUN --out WORLD            a world of one's own, from a training run
"""

from pathlib import Path
from typing import Annotated

import typer

from engine.catalog import EMBEDDED, PUBLISHED
from engine.errors import run_cli
from train.threads import wait_asleep

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

HUB, RUN, PLANS = "The published world", "From a training run", "TensorRT plans"


@app.command()
def export(
    source: Annotated[
        str | None,
        typer.Argument(help="freedoom, csgo, or the directory of a training run, a release or a world"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="directory of the world to write; default: where diamond-play finds it by name, or in place"
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, bf16, int8, or several with commas; fp32 is always there")
    ] = "fp32",
    target: Annotated[
        str,
        typer.Option(help="onnx, trt, torch, or several with commas; the ONNX graphs are always there"),
    ] = "onnx",
    force: Annotated[bool, typer.Option("--force", help="replace what is there already")] = False,
    name: Annotated[str | None, typer.Option(help="the world's name; default: the source's")] = None,
    title: Annotated[str | None, typer.Option(help="the world's title for people")] = None,
    opt_level: Annotated[
        int | None,
        typer.Option(
            help="0 builds fast, 5 runs fast; default: TensorRT's own choice", rich_help_panel=PLANS
        ),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(
            help="scratch memory a layer may use on the GPU, in MB; default: all there is",
            metavar="MB",
            rich_help_panel=PLANS,
        ),
    ] = None,
    release: Annotated[
        Path | None,
        typer.Option(help="the release's directory, instead of a download", rich_help_panel=HUB),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="open no connection: use what was downloaded before", rich_help_panel=HUB
        ),
    ] = False,
    spawns: Annotated[
        int, typer.Option(help="places to start from, picked from held-out episodes", rich_help_panel=RUN)
    ] = 8,
    first_spawn: Annotated[
        int,
        typer.Option(help="which of them comes first and gives the demonstration", rich_help_panel=RUN),
    ] = 0,
    data: Annotated[
        Path | None,
        typer.Option(help="recordings; default: those the run was trained on", rich_help_panel=RUN),
    ] = None,
    notice: Annotated[
        Path | None,
        typer.Option(help="licence or notice of the game, put into the world", rich_help_panel=RUN),
    ] = None,
) -> None:
    """Make a world to play, or more precisions of it, verified before it is written."""
    from engine.tensorrt.network import BuildOptions
    from export.job import ExportJob, export_world
    from export.options import RunOptions

    if source is None:
        source = EMBEDDED[0] if release is None else PUBLISHED
    export_world(
        ExportJob(
            source=source,
            out=out,
            precisions=tuple(part.strip() for part in precision.split(",")),
            targets=tuple(part.strip() for part in target.split(",")),
            plan_options=BuildOptions(opt_level, None if workspace is None else workspace * 10**6),
            release=release,
            offline=offline,
            force=force,
            name=name,
            title=title,
            run=RunOptions(spawns, first_spawn, data, notice),
        )
    )


def main() -> None:
    """The console script."""
    wait_asleep()
    run_cli(app, extra="export")


if __name__ == "__main__":
    main()
