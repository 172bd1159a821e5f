"""The benchmark measures what it says, says it in JSON, and refuses what it does not understand."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import machine, measure
from benchmarks.configuration import Config
from benchmarks.machine import cores, hardware, peak_memory_bytes, resident_bytes, versions
from benchmarks.measure import FEWEST, MOST, chosen_frames
from benchmarks.playing import Played, percentiles, ratios, spread, spread_text, take_turns
from benchmarks.report import layers_in_words
from benchmarks.worlds import find_world
from engine import load_world, native
from engine.backends.ort import OrtBackend
from engine.bundle import Bundle
from engine.errors import DiamondError
from engine.world import World
from tests.engine.doubles import NumpyBackend
from tests.engine.tiny_world import world_files, world_json

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "latency.py"


def command(*arguments: object, blocked: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs the script as from a checkout whose package is not installed in place; `blocked` are missing libraries."""
    code = "import runpy, sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    code += f"sys.argv = {[str(SCRIPT), *map(str, arguments)]!r}\n"
    code += f"sys.path[:] = [p for p in sys.path if p not in ('', {str(ROOT)!r})]\n"
    code += f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=False
    )


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world that the numpy double can play."""
    from engine.bundle import write_bundle

    folder = tmp_path_factory.mktemp("stand_in")
    manifest = world_json() | {"horizon": 5}
    return write_bundle(folder / "tiny", manifest, world_files(folder, manifest))


# Arithmetic.


def test_percentiles_are_those_of_the_frames() -> None:
    assert percentiles(np.arange(101.0)) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_a_ratio_is_the_median_over_the_blocks_with_its_quartiles() -> None:
    found = spread(ratios([2.0, 8.0, 6.0, 8.0, 10.0], [2.0, 4.0, 2.0, 2.0, 2.0]))
    assert found == {"p25": 2.0, "p50": 3.0, "p75": 4.0}
    assert spread_text(found) == "3.00 (2.00 - 4.00)"


def test_as_many_frames_are_measured_as_take_half_a_minute() -> None:
    assert chosen_frames(300) == 100
    assert (chosen_frames(1), chosen_frames(10_000)) == (MOST, FEWEST)


# Configurations.


def test_a_configuration_changes_what_it_names() -> None:
    base = Config(precision="fp32", threads=2)
    assert Config.parse("precision=int8+threads=1", base) == Config(precision="int8", threads=1)
    assert Config.parse("preset=quality", base) == Config(precision="fp32", preset="quality", threads=2)
    assert Config.parse("steps=3/10", Config()).label == "steps=3/10"
    assert (base.label, Config().label) == ("precision=fp32+threads=2", "defaults")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("speed=high", "'speed=high'"),
        ("fp32", "'fp32'"),
        ("threads=two", "'two' threads"),
        ("threads=0", "threads=0"),
        ("steps=0", "steps=0"),
        ("steps=1/2/3", "steps=1/2/3"),
        ("native=on", "native=on"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(DiamondError, match=complaint):
        Config.parse(text, Config())


@pytest.mark.skipif(not native.kernels(), reason=native.missing())
def test_a_configuration_can_do_without_native_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.SWITCH, "")
    described = {}
    for setting in (None, "off"):
        with Config("ort", native=setting).load(find_world("freedoom")) as world:
            described[setting] = world.describe()
    assert "native operators" in described[None]
    assert "native" not in described["off"]
    assert os.environ[native.SWITCH] == ""
    with Config("ort", native="avx2").load(find_world("freedoom")) as world:
        assert "(AVX2)" in world.describe() or platform.machine() != "x86_64"


def test_steps_replace_those_of_the_preset(tiny_bundle: Path) -> None:
    with Config(steps="3/2").load(tiny_bundle) as world:
        assert {name: sampler.steps for name, sampler in world.samplers.items()} == {
            "denoiser": 3,
            "upsampler": 2,
        }


# Playing.


def test_worlds_take_turns_block_by_block(stand_in: Path) -> None:
    players = [Played(World(Bundle.open(stand_in), NumpyBackend())) for _ in range(3)]
    medians = take_turns(players, frames=8, blocks=4)
    assert [len(blocks) for blocks in medians] == [4, 4, 4]
    assert [len(player.rows) for player in players] == [8, 8, 8]


def test_a_rollout_starts_over_at_its_horizon(stand_in: Path) -> None:
    with World(Bundle.open(stand_in), NumpyBackend()) as world:
        played = Played(world)
        assert len(played.play(7)) == 7
        assert world.step(world.action_space.idle()).index == 3, "5 frames, a reset, 2 frames, and this one"


def test_stages_add_up_to_the_frame(tiny_bundle: Path) -> None:
    with load_world(tiny_bundle, threads=1) as world:
        played = Played(world)
        played.play(5)
        figures = played.figures()
    for row in played.rows:
        assert sum(value for name, value in row.items() if name != "total") == pytest.approx(row["total"])
    assert 0 < figures["outside_networks"] < 1
    assert set(figures["stages_ms_p50"]) == {"conditioner", "denoiser", "upsampler", "sampler", "other"}


def test_this_machine_is_described() -> None:
    assert hardware()["cpu"]
    assert hardware()["cores"] == cores() >= 1
    assert versions()["numpy"] == np.__version__
    assert 10**7 < resident_bytes() <= peak_memory_bytes() * 1.1


def test_processors_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"model name": "AMD EPYC", "cpu family": "25", "model\t": "17"}
    monkeypatch.setattr(machine, "_cpuinfo", lambda field: fields.get(field, ""))
    assert hardware()["cpu"] == "AMD EPYC (family 25, model 17)"
    del fields["cpu family"]  # as on ARM
    assert hardware()["cpu"] == "AMD EPYC"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_others_that_compute_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "WATCHED_S", 1.0)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            found = machine.load()
        finally:
            other.kill()
    assert found["busy"], found
    assert 0.3 < float(str(found["busy_cores"])) <= (os.cpu_count() or 1) + 0.5, found


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_process_is_not_charged_for_the_one_that_started_it() -> None:
    ballast = np.ones(40_000_000)  # 320 MB
    code = "from benchmarks.machine import peak_memory_bytes; print(peak_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert 10**7 < int(done.stdout) < ballast.nbytes / 2


def test_layers_that_are_computed_in_another_precision_than_the_files_say_so(tiny_bundle: Path) -> None:
    backend = OrtBackend(threads=1)
    backend.computes_from = {"bf16": "fp32"}  # also where the processor can't
    with World(Bundle.open(tiny_bundle), backend, "bf16") as world:
        run = {"precision": world.precision, "graphs_precision": world.graphs_precision}
        run |= measure._graphs(world, threads=1, frame_ms=1.0)
    counted = run["layers"]["denoiser"]["Conv fp32"]
    assert layers_in_words(run).startswith(f"computed in bf16 from: denoiser: {counted} Conv fp32, ")
    assert layers_in_words(run | {"precision": "fp32"}).startswith(f"denoiser: {counted} Conv fp32, ")
    of_before = {name: value for name, value in run.items() if name != "graphs_precision"}  # in kept reports
    assert layers_in_words(of_before).startswith("denoiser: ")


# The command.


def test_the_last_line_is_the_report(tmp_path: Path, tiny_bundle: Path) -> None:
    kept = tmp_path / "machine.json"
    done = command(
        *(tiny_bundle, "--frames", 8, "--warmup", 2, "--threads", 1, "--json", kept),
        *("--compare", "threads=1,preset=quality"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert json.loads(kept.read_text())["reports"] == [report]
    assert (report["benchmark"], report["world"], report["config"]) == ("latency", "tiny", "threads=1")
    assert report["load"]["load_average"] >= 0
    run = report["run"]
    assert "CPUExecutionProvider, 1 thread" in run["runs_on"]
    assert run["layers"]["denoiser"]["Conv fp32"] > 0
    assert run["evaluations"] == {"denoiser": 1, "upsampler": 1}
    assert (run["frames"], len(run["warm_up_ms"])) == (8, 2)
    assert 0 < run["frame_ms"]["p50"] <= run["frame_ms"]["p95"] <= run["frame_ms"]["p99"]
    assert 0 < run["start"]["shown_s"] <= run["start"]["painted_s"] < 60
    assert run["roofline"]["times_roofline"] > 0.5
    first, second = report["compare"]
    assert first["ratio"] == {"p25": 1.0, "p50": 1.0, "p75": 1.0}
    assert second["config"] == "preset=quality+threads=1"
    assert second["ratio"]["p50"] < 0.8, "three times the denoiser's steps, ten times the upsampler's"
    assert "| tiny fp32 fast |" in done.stdout
    assert "| in turns: preset=quality+threads=1 |" in done.stdout


def test_without_onnx_and_torch_all_but_what_the_graphs_say_is_measured() -> None:
    done = command("--frames", 2, "--warmup", 1, "--threads", 1, blocked=("onnx", "torch"))
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout.splitlines()[-1])["run"]
    assert run["world"] == "freedoom"
    assert 50 < run["start"]["peak_memory_mb"] < 400
    assert (run["roofline"], run["layers"]) == (None, None)
    assert "pip install 'diamond-engine[export]'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("freedoom", "--random-weights"), "--random-weights with csgo"),
        (("freedoom", "--reference", "."), "--release DIR, or --random-weights"),
        (("freedoom", "--backend", "abacus"), "backend 'abacus'"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(arguments: tuple[str, ...], complaint: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
