"""A world on disk: a directory of world.json, graphs and spawns, read strictly and verified before use.

Only plain data: JSON, ONNX and npz without pickles. Every file is listed with its length and SHA-256, and
lies inside the directory. Writing is in `engine.bundle_writer`. Knows no runtime: it hands out paths and
arrays.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bundle_writer import WORLD_JSON, write_bundle
from engine.catalog import NAMES
from engine.errors import DiamondError
from engine.graphs import GraphSpec
from engine.manifest import Manifest, manifest_from_json
from engine.spawn import Spawn, read_spawn

__all__ = ["Bundle", "Spawn", "write_bundle"]

_FIX = "copy the world again from where it came, or export it again with diamond-export"
_HASHING_THREADS = 4  # hashing releases the interpreter lock


@dataclass(frozen=True)
class Bundle:
    """A world on disk; `Bundle.open` makes one.

    Attributes:
        path: the directory.
        manifest: world.json, read.
        digest: SHA-256 of world.json; since that lists the hash of every file, it names the whole world.
    """

    path: Path
    manifest: Manifest
    digest: str

    @classmethod
    def open(cls, path: Path | str, verify: bool = True) -> "Bundle":
        """Reads world.json and checks every file it lists.

        Args:
            path: the directory.
            verify: compare hashes too (20 MB: 20 ms); otherwise presence and length only.

        Raises:
            DiamondError: naming the file or field that is missing, damaged or contradictory.
        """
        path = Path(path)
        text = _read_world_json(path)
        manifest = manifest_from_json(_parse(path / WORLD_JSON, text))
        for name, entry in manifest.files.items():
            size_bytes = _inside(path, name).stat().st_size
            if size_bytes != entry.size_bytes:
                raise DiamondError(f"{path / name}: {size_bytes} bytes", f"{entry.size_bytes} bytes", _FIX)
        if verify:
            _verify_hashes(path, manifest)
        return cls(path, manifest, hashlib.sha256(text).hexdigest())

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions in which this world has graphs, in the order of world.json."""
        return tuple(self.manifest.graphs)

    def graphs_bytes(self, precision: str) -> int:
        """Length of the graphs of a precision, weights beside them included."""
        entries = self.manifest.graphs[precision].values()
        names = {entry.file for entry in entries} | {f"{entry.file}.data" for entry in entries}
        return sum(file.size_bytes for name, file in self.manifest.files.items() if name in names)

    def file(self, name: str) -> Path:
        """The path of a listed file.

        Raises:
            DiamondError: world.json does not list it.
        """
        if name not in self.manifest.files:
            raise DiamondError(
                f"{self.path}: lists no file {name!r}", f"one of {sorted(self.manifest.files)}"
            )
        return self.path / name

    def graph(self, precision: str, role: str) -> GraphSpec:
        """A graph to load.

        Raises:
            DiamondError: this world has no such precision or graph.
        """
        name = self.manifest.name
        if precision not in self.manifest.graphs:
            raise DiamondError(
                f"world {name!r}: has no graphs in precision {precision!r}",
                f"one of {list(self.precisions)}",
                f"make them: diamond-export {name if name in NAMES else self.path} --precision {precision}",
            )
        graphs = self.manifest.graphs[precision]
        if role not in graphs:
            raise DiamondError(f"world {name!r}: has no graph {role!r}", f"one of {sorted(graphs)}")
        entry = graphs[role]
        return GraphSpec(role, precision, self.file(entry.file), entry.inputs, entry.outputs)

    def spawn(self, index: int) -> Spawn:
        """Reads one spawn.

        Args:
            index: 0 to the number of spawns - 1.

        Raises:
            DiamondError: no such spawn, or its arrays are not this world's.
        """
        spawns = self.manifest.spawns
        if not 0 <= index < len(spawns):
            raise DiamondError(
                f"spawn {index}: world {self.manifest.name!r} has {len(spawns)}", "a number from 0"
            )
        return read_spawn(self.file(spawns[index]), self.manifest.sizes, self.manifest.action_space)


def _read_world_json(path: Path) -> bytes:
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "no such directory"
        raise DiamondError(f"{path}: {what}", "the directory of a world")
    try:
        return (path / WORLD_JSON).read_bytes()
    except FileNotFoundError:
        raise DiamondError(
            f"{path}: holds no {WORLD_JSON}",
            "the directory of a world",
            "make one from a training run with diamond-export",
        ) from None
    except OSError as error:
        raise DiamondError(
            f"{path / WORLD_JSON}: cannot be read: {error.strerror}", "a readable file"
        ) from error


def _parse(path: Path, text: bytes) -> object:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} twice in one object")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise DiamondError(
            f"{path}: not valid JSON: {error}", "one whole JSON object in UTF-8", _FIX
        ) from error


def _inside(root: Path, name: str) -> Path:
    """The path of a listed file, which must be a regular file that really lies below `root`."""
    path = root / name
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a loop of symbolic links
        raise DiamondError(f"{path}: no such file", "every file that world.json lists", _FIX) from None
    if not real.is_relative_to(root.resolve()):
        raise DiamondError(
            f"{path}: a link that leads out of the bundle, to {real}",
            "files inside the bundle",
            "do not use this bundle unless you trust who made it; else replace the link by the file",
        )
    if not real.is_file():
        raise DiamondError(f"{path}: not a regular file", "every file that world.json lists", _FIX)
    return path


def _verify_hashes(root: Path, manifest: Manifest) -> None:
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        digests = pool.map(_sha256, [root / name for name in manifest.files])
        for (name, entry), digest in zip(manifest.files.items(), digests, strict=True):
            if digest != entry.sha256:
                expected = f"{entry.sha256}, as {WORLD_JSON} says"
                raise DiamondError(f"{root / name}: damaged, its sha256 is {digest}", expected, _FIX)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DiamondError(f"{path}: cannot be read: {error.strerror}", "a readable file") from error
