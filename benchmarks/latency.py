"""How long a frame takes, on what, and why: something to paste into an issue, and one line of JSON.

    python benchmarks/latency.py                                         the embedded world
    python benchmarks/latency.py csgo --random-weights                   the published architecture, no download
    python benchmarks/latency.py --compare precision=fp32,precision=int8+threads=1
    python benchmarks/latency.py csgo --random-weights --reference DIR   beside a checkout of the original
    python benchmarks/latency.py --json benchmarks/results/MACHINE.json  keep it, beside this machine's other reports

Precision and provider are those that really run. Timings of a shared machine are noisy: what is compared is played in
turns within one run. Ratios say how many times as fast as the first configuration, or the original, something is, with
quartiles over the blocks.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, wherever it is started from

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def latency(
    world: Annotated[str, typer.Argument(help="name of a world, or the directory of one")] = "freedoom",
    backend: Annotated[str, typer.Option(help="what runs it")] = "auto",
    precision: Annotated[str | None, typer.Option(help="of the graphs")] = None,
    preset: Annotated[str | None, typer.Option(help="sampler settings")] = None,
    steps: Annotated[str | None, typer.Option(help="N or N/M: of denoiser and upsampler")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; default: one a core", min=1)] = None,
    frames: Annotated[
        int | None, typer.Option(help="frames to measure; default: about 30 s of them", min=1)
    ] = None,
    warmup: Annotated[int, typer.Option(help="frames before that", min=1)] = 5,
    compare_with: Annotated[
        str | None,
        typer.Option(
            "--compare", help="configurations to play in turns, with commas: precision=int8+threads=1,..."
        ),
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="csgo: the published architecture, weights made here")
    ] = False,
    reference: Annotated[Path | None, typer.Option(help="a checkout of the original to play beside")] = None,
    reference_frames: Annotated[
        int, typer.Option(help="frames of that, after a block to warm up", min=1)
    ] = 16,
    release: Annotated[
        Path | None, typer.Option(help="--reference: the release the world was made from")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="keep the report in this file, one a machine")
    ] = None,
) -> None:
    """Measure the latency of a world."""
    from benchmarks import machine
    from benchmarks.configuration import Config
    from benchmarks.measure import beside, compare, measure
    from benchmarks.progress import say
    from benchmarks.report import rows, table
    from benchmarks.results import keep
    from benchmarks.worlds import find_release, find_world

    base = Config(backend, precision, preset, threads, steps)
    configs = [Config.parse(text, base) for text in compare_with.split(",")] if compare_with else []
    path = find_world(world, random_weights)
    if reference is not None:
        release = find_release(path, release, random_weights)
    report: dict[str, Any] = {
        **machine.circumstances("latency"),
        "run": measure(path, base, frames, warmup, say),
    }
    report |= {"world": report["run"]["world"], "config": base.label}
    if random_weights:
        report["run"]["made_by"] = "random, and not verified"
    if configs:
        report["compare"] = compare(path, configs, frames, warmup, say)
    if reference is not None and release is not None:
        report["reference"] = beside(reference, path, release, base, reference_frames, say)
    for name, text in rows(report):
        print(f"{name:<10} {text}")
    print(f"\n{table(report)}\n")
    if json_file is not None:
        keep(report, json_file)
    print(json.dumps(report))


def main() -> None:
    """The command line."""
    from engine.errors import run_cli

    run_cli(app, extra="export")


if __name__ == "__main__":
    main()
