"""diamond-train: a thin door to the loop.

diamond-train freedoom --data DIR --out RUN       trains the denoiser, then the upsampler
diamond-train freedoom --data DIR --out RUN --from WORLD    goes on from a trained world's weights
diamond-train --out RUN --resume                  goes on where it stopped
"""

from pathlib import Path
from typing import Annotated

import typer

from engine.errors import DiamondError, run_cli
from train.threads import wait_asleep

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def train(
    preset: Annotated[
        str | None, typer.Argument(help="freedoom, csgo or tiny; not needed with --resume")
    ] = None,
    out: Annotated[Path, typer.Option(help="run directory: checkpoints, pictures, scalars")] = Path("run"),
    data: Annotated[Path | None, typer.Option(help="recordings, as diamond-data record writes them")] = None,
    begin_from: Annotated[
        str | None, typer.Option("--from", help="begin from the weights of a world or of another run")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in --out")] = False,
    only: Annotated[str | None, typer.Option(help="denoiser or upsampler; both if left out")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="e.g. denoiser.steps=20000; may be repeated")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of a process; 0: PyTorch's choice")] = 0,
    processes: Annotated[
        int, typer.Option(min=1, help="that train together: one a GPU, or several on a CPU")
    ] = 1,
) -> None:
    """Train a world's networks from recordings."""
    from train.run import RunRequest, train_world

    if only not in (None, "denoiser", "upsampler"):
        raise DiamondError(f"--only {only}", expected="denoiser or upsampler")
    train_world(
        RunRequest(
            preset, out, data, resume, only, tuple(settings or ()), device, threads, processes, begin_from
        )
    )


def main() -> None:
    """The console entry."""
    wait_asleep()
    run_cli(app, extra="train")


if __name__ == "__main__":
    main()
