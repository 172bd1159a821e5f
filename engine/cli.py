"""diamond-play: a thin door to the player.

diamond-play                                      opens a window on the world that comes along
diamond-play csgo                                 the published world: fetched and converted once, then at once
diamond-play WORLD --preset quality               another world, better frames
diamond-play --record session.npz                 keeps what you do
diamond-play --headless clip.mp4 --actions session.npz --preset quality
diamond-play --doctor                             what this machine can play on, and what is in the way
"""

from pathlib import Path
from typing import Annotated

import typer

from engine.errors import DiamondError, run_cli

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

RUNS, PLAY, FILES = "What runs it", "The game", "Files"


@app.command()
def play(
    world: Annotated[str, typer.Argument(help="name of a world, or the directory of one")] = "freedoom",
    release: Annotated[
        Path | None,
        typer.Option(help="csgo: the release's directory, instead of a download", rich_help_panel=RUNS),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="csgo: open no connection", rich_help_panel=RUNS)
    ] = False,
    doctor: Annotated[
        bool,
        typer.Option(
            "--doctor", help="say what this machine can play on, and what is in the way", rich_help_panel=RUNS
        ),
    ] = False,
    backend: Annotated[
        str,
        typer.Option(
            help="trt, torch, ort, openvino; auto picks and says why; one asked for by name never falls back",
            rich_help_panel=RUNS,
        ),
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, int8, ...; default: what the backend runs best", rich_help_panel=RUNS),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; default: one a physical core", rich_help_panel=RUNS)
    ] = None,
    no_cuda_graph: Annotated[
        bool,
        typer.Option(
            "--no-cuda-graph",
            help="on a GPU: call by call, not as one CUDA graph a frame; slower, tells the stages apart",
            rich_help_panel=RUNS,
        ),
    ] = False,
    preset: Annotated[
        str | None, typer.Option(help="sampler settings: fast, quality, ...", rich_help_panel=PLAY)
    ] = None,
    steps: Annotated[
        str,
        typer.Option(
            help="sampler steps of the denoiser, or N,M with the upsampler's; counts more than --set",
            rich_help_panel=PLAY,
        ),
    ] = "",
    sampler: Annotated[
        Path | None,
        typer.Option(
            help="YAML of sampler settings, by network; counts more than --preset",
            metavar="FILE.yaml",
            rich_help_panel=PLAY,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="one sampler setting, such as upsampler.s_churn=5; repeatable; counts more than --sampler",
            metavar="NETWORK.FIELD=VALUE",
            rich_help_panel=PLAY,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="seed of the noise; default: the recording's, or 0", rich_help_panel=PLAY),
    ] = None,
    spawn: Annotated[
        int | None, typer.Option(help="where to start; default: the recording's, or 0", rich_help_panel=PLAY)
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(
            help="frames after which the next spawn begins; default: the world's", rich_help_panel=PLAY
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="frames a second to aim at; default: the world's", rich_help_panel=PLAY),
    ] = None,
    mouse_multiplier: Annotated[
        float, typer.Option(help="mouse units of the world per pixel", rich_help_panel=PLAY)
    ] = 10.0,
    size: Annotated[
        int | None, typer.Option(help="window: so many times the frame's size", rich_help_panel=PLAY)
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            help="record the actions (FILE.npz, replays exactly) or the frames (FILE.mp4)",
            metavar="FILE",
            rich_help_panel=FILES,
        ),
    ] = None,
    actions: Annotated[
        Path | None, typer.Option(help="play recorded actions", metavar="FILE.npz", rich_help_panel=FILES)
    ] = None,
    replay: Annotated[
        bool,
        typer.Option(
            "--replay",
            help="play the recorded actions of the spawns, one after the other",
            rich_help_panel=FILES,
        ),
    ] = False,
    headless: Annotated[
        Path | None,
        typer.Option(help="no window: render to a video", metavar="FILE.mp4", rich_help_panel=FILES),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            help="length of the video at most; default: the recorded actions",
            metavar="N",
            rich_help_panel=FILES,
        ),
    ] = None,
) -> None:
    """Play a world in a window, or render it to a video.

    Without a display, ten seconds of recorded play are rendered to WORLD.mp4.
    Controls are printed at the start; in the window, a click captures the mouse and Escape releases it.
    """
    if doctor:
        from engine.doctor import report

        print(report())
        return
    from engine.player.launch import PlayConfig
    from engine.player.launch import play as launch

    launch(
        PlayConfig(
            world=world,
            release=release,
            offline=offline,
            backend=backend,
            precision=precision,
            threads=threads,
            cuda_graph=not no_cuda_graph,
            preset=preset,
            sampler=sampler,
            settings=tuple(settings or ()),
            steps=_steps(steps),
            seed=seed,
            spawn=spawn,
            horizon=horizon,
            fps=fps,
            record=record,
            headless=headless,
            frames=frames,
            actions=actions,
            replay=replay,
            mouse_multiplier=mouse_multiplier,
            size=size,
        )
    )


def _steps(text: str) -> tuple[int, ...]:
    """The numbers of "3" or "3,10"; none of "".

    Raises:
        DiamondError: something else.
    """
    try:
        return tuple(int(part) for part in text.split(",") if text)
    except ValueError:
        raise DiamondError(f"--steps {text}", "N, or N,M: denoiser and upsampler") from None


def main() -> None:
    """The console entry."""
    run_cli(app)


if __name__ == "__main__":
    main()
