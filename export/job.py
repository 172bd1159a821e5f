"""What diamond-export does: find what is meant, make its world where there is none yet, add the precisions asked for.

    a training run, a release    fp32 graphs are exported from PyTorch and compared with it (export.assemble)
    a world                      other precisions are made from its fp32 graphs (export.add_precision), without torch

and, where asked for, the TensorRT plans of its graphs (export.plans), or programs of PyTorch (export.programs).

The published world and copies of embedded ones go where `engine.catalog` finds them by name.
"""

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from engine.bundle import Bundle
from engine.bundle_writer import WORLD_JSON, write_bundle
from engine.catalog import EMBEDDED, PUBLISHED, own_world, resolve
from engine.errors import DiamondError
from engine.hub import REPO, fetch_release
from engine.space import free_disk_bytes, memory_text, require_disk, size_text
from engine.tensorrt.flavour import load_flavour
from engine.tensorrt.network import BuildOptions
from engine.tensorrt.precisions import PRECISIONS as PLAN_PRECISIONS
from engine.torch_graph.bindings import onnx_library, torch_library
from engine.torch_graph.program import PRECISIONS as PROGRAM_PRECISIONS
from export.options import PRECISIONS, TARGETS, RunOptions, Say

DISK_FACTOR = 1.6  # of the fp32 graphs, for each precision: the new ones, and those that verification plays
MEMORY_FACTOR = 3.2  # of the fp32 graphs, at the peak: docs/precisions.md
RUN_JSON = "run.json"
RELEASE_CONFIG = "config"


@dataclass(frozen=True)
class ExportJob:
    """What the user asked for.

    Attributes:
        source: a world's name, or a directory: of a run, a release or a world.
        out: where the world goes; None for where `engine.catalog` finds it, or for a world's own directory.
        precisions: of the graphs; fp32 is always among them, because the others are made from it.
        targets: what to make; the ONNX graphs are always made, because the others are made from them.
        plan_options: how TensorRT builds.
        release: the published world's release, already here; None to fetch it from the hub.
        offline: open no connection.
        force: replace a world that is there already.
        name, title: of the world; None for the source's.
        run: further choices about the world of a run.
    """

    source: str = EMBEDDED[0]
    out: Path | None = None
    precisions: tuple[str, ...] = ("fp32",)
    targets: tuple[str, ...] = ("onnx",)
    plan_options: BuildOptions = field(default_factory=BuildOptions)
    release: Path | None = None
    offline: bool = False
    force: bool = False
    name: str | None = None
    title: str | None = None
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise DiamondError(f"--precision {precision}", f"one or more of {', '.join(PRECISIONS)}")
        self._check_targets()
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise DiamondError(f"--name {self.name!r}", "a word of letters, digits, '-', '_' and '.'")
        if self.release is not None and self.source != PUBLISHED:
            raise DiamondError(
                f"--release {self.release} with the source {self.source!r}", f"--release with {PUBLISHED}"
            )

    def _check_targets(self) -> None:
        for target in self.targets:
            if target not in TARGETS:
                raise DiamondError(f"--target {target}", f"one or more of {', '.join(TARGETS)}")
        for target, precisions, why in (
            ("trt", PLAN_PRECISIONS, "TensorRT plans are not made of it"),
            ("torch", PROGRAM_PRECISIONS, "the backend torch does not run it"),
        ):
            without = [name for name in self.precisions if name not in precisions]
            if target in self.targets and without:
                raise DiamondError(
                    f"--target {target} with --precision {without[0]}: {why}",
                    f"of {', '.join(precisions)}",
                    f"export {without[0]} by itself, without --target {target}",
                )
        if "trt" not in self.targets and self.plan_options != BuildOptions():
            raise DiamondError(
                "--opt-level or --workspace without plans to build", "--target trt beside them"
            )


def export_world(job: ExportJob, say: Say = print) -> Path:
    """Does the job; returns the world's directory.

    Raises:
        DiamondError: what is wrong with the source, the place or the disk, or that a parity gate failed. A world that
            was there stays as it was, and a new one stays as far as it has passed its gates.
    """
    began = time.perf_counter()

    def timed(line: str) -> None:
        say(f"[{time.perf_counter() - began:6.1f} s] {line}")

    if "trt" in job.targets:
        load_flavour()  # what is missing is said before anything takes long
    if "torch" in job.targets:
        torch_library()  # what is missing is said before anything takes long
        onnx_library()
    source = Path(job.source)
    if job.source == PUBLISHED:
        world = _published(job, timed)
    elif (source / RELEASE_CONFIG).is_dir():
        world = _from_release(job, source, _new_place(job), timed)
    elif (source / RUN_JSON).is_file():
        world = _from_run(job, source, _new_place(job), timed)
    else:
        world = _from_world(job, timed)
    bundle = Bundle.open(world, verify=False)
    megabytes = sum(entry.size_bytes for entry in bundle.manifest.files.values()) / 1e6
    timed(
        f"{world}: world {bundle.manifest.name!r}, {len(bundle.manifest.spawns)} spawns, "
        f"{', '.join(bundle.precisions)}, {megabytes:.1f} MB"
    )
    if "trt" in job.targets:
        from export.plans import make_plans

        make_plans(world, job.precisions, job.plan_options, job.force, timed)
    if "torch" in job.targets:
        from export.programs import make_programs

        make_programs(world, job.precisions, job.force, timed)
    return world


def _published(job: ExportJob, say: Say) -> Path:
    """The published world, made only where it is not there yet."""
    out = job.out or own_world(PUBLISHED)
    if (out / WORLD_JSON).is_file() and not job.force:
        _require_same(out, job)
        return _add(out, out, job, say)
    import export.from_release  # noqa: F401  # a missing library is said before anything large is downloaded

    _require_free(out, job.force)
    release = job.release
    if release is None:
        release = fetch_release(job.offline, say)
    return _from_release(job, release, out, say)


def _require_same(out: Path, job: ExportJob) -> None:
    """Checks that the world at `out` was made from this release, as far as that can be told without the network."""
    made_by = Bundle.open(out, verify=False).manifest.made_by
    if job.release is None:
        same = job.out is None or str(made_by.get("release")).startswith(REPO)
    else:
        from export.from_release import checkpoint_sha256

        same = made_by.get("checkpoint_sha256") == checkpoint_sha256(job.release)
    if not same:
        raise DiamondError(
            f"{out}: a world is there already, made from another release",
            "a world of this release, or a new directory",
            "choose another --out, or replace it with --force",
        )


def _from_release(job: ExportJob, release: Path, out: Path, say: Say) -> Path:
    from export.assemble import build_bundle
    from export.from_release import parts_from_release, state_cost

    parts = parts_from_release(release, say, job.name, job.title)
    state_cost(parts, out, say)
    return _complete(build_bundle(parts, out, say=say), job, say)


def _from_run(job: ExportJob, run: Path, out: Path, say: Say) -> Path:
    from export.assemble import build_bundle
    from export.from_run import parts_from_run

    parts = parts_from_run(run, job.run, say, job.name, job.title)
    return _complete(build_bundle(parts, out, say=say), job, say)


def _complete(world: Path, job: ExportJob, say: Say) -> Path:
    """A world just made, with the other precisions that were asked for."""
    return _add(world, world, job, say) if set(job.precisions) - {"fp32"} else world


def _from_world(job: ExportJob, say: Say) -> Path:
    """A copy with more precisions: of an embedded world in the user's directory, of any other in its own place."""
    if not Path(job.source).is_dir() and job.source not in EMBEDDED:
        raise DiamondError(
            f"{job.source}: no such name or directory",
            f"a world ({', '.join((*EMBEDDED, PUBLISHED))}), or the directory of a training run, a release or a world",
        )
    source = resolve(job.source)
    out = job.out or (own_world(job.source) if job.source in EMBEDDED else source)
    if not (source / WORLD_JSON).is_file():
        raise DiamondError(
            f"{source}: is neither a training run nor a release nor a world",
            f"a directory with {RUN_JSON}, {RELEASE_CONFIG}/ or {WORLD_JSON}",
        )
    if out.resolve() != source.resolve():
        _require_free(out, job.force or job.out is None)
    return _add(source, out, job, say)


def _add(source: Path, out: Path, job: ExportJob, say: Say) -> Path:
    """Adds the precisions that are not there yet; all that were asked for, where the user insists."""
    here = Bundle.open(source, verify=False).precisions
    wanted = [name for name in dict.fromkeys(job.precisions) if name != "fp32"]
    missing = wanted if job.force else [name for name in wanted if name not in here]
    if missing:
        from export.add_precision import add_precisions

        _state_cost(Bundle.open(source, verify=False), out, len(missing), say)
        return add_precisions(source, out, missing, say)
    if out.resolve() == source.resolve() or job.out is None:
        say(f"{source}: has {', '.join(job.precisions)} already, nothing to add")
        return source
    manifest = json.loads((source / WORLD_JSON).read_text("utf-8"))
    return write_bundle(out, manifest, {name: source / name for name in manifest.pop("files")})


def _state_cost(bundle: Bundle, out: Path, precisions: int, say: Say) -> None:
    """Says what the making of further precisions is about to take.

    Raises:
        DiamondError: the disk is too small for it.
    """
    graphs_bytes = bundle.graphs_bytes("fp32")
    kept_bytes = sum(entry.size_bytes for entry in bundle.manifest.files.values())
    disk_bytes = kept_bytes + round(DISK_FACTOR * precisions * graphs_bytes)
    say(
        f"{bundle.manifest.name}: {memory_text(MEMORY_FACTOR * graphs_bytes)}; "
        f"{size_text(disk_bytes)} of disk while it is made, {size_text(free_disk_bytes(out))} free"
    )
    require_disk(out.parent, disk_bytes, "the new graphs", "free some space, or choose another --out")


def _new_place(job: ExportJob) -> Path:
    """Where a new world goes; checked before minutes of work, rather than after them."""
    if job.out is None:
        raise DiamondError("--out is missing", "the directory of the world to write", "--out DIR")
    _require_free(job.out, job.force)
    return job.out


def _require_free(out: Path, force: bool) -> None:
    if (out / WORLD_JSON).is_file():
        if not force:
            raise DiamondError(
                f"{out}: a world is there already",
                expected="a new directory",
                fix="choose another --out, or replace it with --force",
            )
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DiamondError(f"{out}: exists and is not a world", "a new directory", "choose another --out")
