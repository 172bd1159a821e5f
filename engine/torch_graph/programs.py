"""The program of a graph: the one that was kept where it fits, else a new one, which is then kept.

Two forms a graph: exported, made by the first start, and compiled, made only when `diamond-export --target torch`
asks for it, and taken first. Beside each lies its sidecar, written last and read first: without one, or with one that
does not fit, there is no program. Loading one may run what it holds, so all lie in the user's own directory
(`engine.own_files`).
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.catalog import own_home
from engine.errors import DiamondError
from engine.graphs import GraphSpec
from engine.kept import Say, Unfit, difference, graph_sha256, kept_stem, read_sidecar, tensors_text
from engine.own_files import OwnFiles
from engine.torch_graph.bindings import torch_library
from engine.torch_graph.device import Device
from engine.torch_graph.program import (
    COMPILED,
    EXPORTED,
    Program,
    compile_program,
    compiled_program,
    export,
    exported_program,
    from_bytes,
    heavy_types,
    require_precision,
    to_bytes,
)

PROGRAMS = "programs"
RECIPE = "1"  # raise it when the same graph becomes another program


@dataclass(frozen=True)
class Circumstances:
    """All that a program depends on, as text.

    Attributes:
        form: exported or compiled. torch: PyTorch's version. recipe: how this engine makes programs.
        device: the kind of device. hardware: which one, where the program is compiled.
        onnx_sha256: of the graph and the weights beside it. precision: of the graph. tensors: its inputs and outputs.
    """

    form: str
    torch: str
    recipe: str
    device: str
    hardware: str
    onnx_sha256: str
    precision: str
    tensors: str


@dataclass(frozen=True)
class Sidecar:
    """A program's description.

    Attributes:
        made_for: what it depends on.
        program_sha256: of the program's bytes.
        made_s: seconds it took.
        types: convolutions and products by type.
    """

    made_for: Circumstances
    program_sha256: str
    made_s: float
    types: Mapping[str, int]

    def to_json(self) -> bytes:
        """As the file beside the program."""
        return (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes, where: str) -> "Sidecar":
        """Reads it.

        Raises:
            DiamondError: not such a file.
        """
        fields, made_for = read_sidecar(text, where, cls, Circumstances)
        types = fields.mapping("types")
        if not all(isinstance(count, int) for count in types.values()):
            raise fields.fail("types", "a number for every type")
        return cls(
            made_for,
            fields.text("program_sha256"),
            fields.number("made_s"),
            {str(name): int(count) for name, count in types.items()},
        )


class Programs:
    """Programs for a device.

    Args:
        folder: where they are kept; None for the user's own directory.
        say: takes one line of progress at a time.
    """

    def __init__(self, device: Device, folder: Path | None = None, say: Say = print) -> None:
        self.device = device
        self.files = OwnFiles(own_home() / PROGRAMS if folder is None else folder, "program")
        self._say = say

    def obtain(self, spec: GraphSpec) -> Program:
        """The graph's program, ready to run.

        Raises:
            DiamondError: the graph cannot be converted, or somebody else could have written what was kept.
        """
        require_precision(spec)
        for form in (COMPILED, EXPORTED):
            try:
                return self._open_kept(spec, self.circumstances(spec, form))
            except Unfit as unfit:
                self._say_why(spec, form, unfit)
        self._say(f"{spec}: making its program, once")
        began = time.perf_counter()
        exported = export(spec, self.device)
        here = self.circumstances(spec, EXPORTED)
        try:
            self._keep(spec, here, to_bytes(exported), heavy_types(exported), time.perf_counter() - began)
        except (
            Exception
        ) as error:  # a full disk, or PyTorch's refusal: the next start takes longer, this one plays
            reason = error.what if isinstance(error, DiamondError) else f"{type(error).__name__}: {error}"
            self._say(f"{spec}: its program is not kept: {reason}")
        return exported_program(exported)

    def make(self, spec: GraphSpec, force: bool = False) -> bool:
        """Has a compiled program kept for the graph; gives whether it had to be compiled.

        Args:
            force: compile even where one that fits was kept.

        Raises:
            DiamondError: as `obtain`; no compiler, its failure, or a disk that is full.
        """
        require_precision(spec)
        here = self.circumstances(spec, COMPILED)
        if not force:
            try:
                self._open_kept(spec, here)
                self._say(f"{spec}: is compiled already")
                return False
            except Unfit as unfit:
                self._say_why(spec, COMPILED, unfit)
        self._say(f"{spec}: compiling for {self.device.name}, half a minute or more")
        began = time.perf_counter()
        exported = export(spec, self.device)
        data, types = compile_program(spec, exported), heavy_types(exported)
        self._keep(spec, here, data, types, time.perf_counter() - began)
        self._say(f"{spec}: compiled in {time.perf_counter() - began:.1f} s")
        return True

    def circumstances(self, spec: GraphSpec, form: str) -> Circumstances:
        """What a program of this graph depends on, here and now."""
        return Circumstances(
            form=form,
            torch=str(torch_library().__version__),
            recipe=RECIPE,
            device=self.device.kind,
            hardware=self.device.hardware if form == COMPILED else "any",
            onnx_sha256=graph_sha256(spec),
            precision=spec.precision,
            tensors=tensors_text(spec),
        )

    def _open_kept(self, spec: GraphSpec, here: Circumstances) -> Program:
        """The program that was kept.

        Raises:
            Unfit: there is none, or it is for other circumstances, or not what was written, or PyTorch refuses it.
        """
        stem = _stem(spec, here)
        text = self.files.read(f"{stem}.json")
        if text is None:
            raise Unfit
        try:
            sidecar = Sidecar.from_json(text, f"{stem}.json")
        except DiamondError as error:
            raise Unfit(error.what) from error
        if (differs := difference(sidecar.made_for, here)) is not None:
            raise Unfit(differs)
        data = self.files.read(f"{stem}.pt2")
        if data is None:
            raise Unfit(f"{stem}.pt2 is missing")
        if hashlib.sha256(data).hexdigest() != sidecar.program_sha256:
            raise Unfit(f"{stem}.pt2 is damaged")
        try:
            if here.form == COMPILED:
                return compiled_program(data, sidecar.types)
            return exported_program(from_bytes(data))
        except Exception as error:  # not the user's to put right: another one is made
            raise Unfit(f"{stem}.pt2: PyTorch refuses it: {type(error).__name__}: {error}") from error

    def _keep(
        self, spec: GraphSpec, here: Circumstances, data: bytes, types: Mapping[str, Any], made_s: float
    ) -> None:
        stem = _stem(spec, here)
        sidecar = Sidecar(here, hashlib.sha256(data).hexdigest(), round(made_s, 1), types)
        self.files.remove(f"{stem}.json")
        self.files.write(f"{stem}.pt2", data)
        self.files.write(f"{stem}.json", sidecar.to_json())

    def _say_why(self, spec: GraphSpec, form: str, unfit: Unfit) -> None:
        if str(unfit):
            again = ": diamond-export WORLD --target torch compiles it again" * (form == COMPILED)
            self._say(f"{spec}: its {form} program does not fit: {unfit}{again}")


def _stem(spec: GraphSpec, here: Circumstances) -> str:
    return f"{kept_stem(spec, here.onnx_sha256)}-{here.device}-{here.form}"
