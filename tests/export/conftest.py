"""Graphs of a small world, exported once for every test of this room that needs some."""

import functools
from pathlib import Path

import pytest

from export import assemble, verify
from export.graphs import world_graphs
from export.job import ExportJob, export_world
from export.onnx import export_graph
from export.report import Gates
from tests.conftest import GOLDEN
from tests.export.worlds import exported_before, random_agent, small_parts


@pytest.fixture(scope="session")
def small_graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of `random_agent`, with an upsampler of factor 2, for frames of 6 x 8; by role, not to be changed."""
    folder = tmp_path_factory.mktemp("small")
    return {
        definition.role: export_graph(definition, folder / f"{definition.role}.onnx")[0]
        for definition in world_graphs(random_agent(upsampling_factor=2), (6, 8))
    }


@pytest.fixture(scope="session")
def small_world(small_graphs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those graphs as a bundle on disk; not to be changed."""
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("worlds") / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "export_graph", exported_before(small_graphs))
        return assemble.build_bundle(small_parts(random_agent(upsampling_factor=2), (6, 8)), out)


@pytest.fixture(scope="session")
def published_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden release as it is, as a bundle; not to be changed.

    At its full frame sizes one evaluation takes seconds, so the gate compares one noise level and one frame.
    """
    pytest.importorskip("onnxruntime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "SIGMAS", (1.0,))
        patch.setattr(verify, "SPAWNS_COMPARED", 1)
        patch.setattr(verify, "Gates", functools.partial(Gates, rollout_frames=1))
        out = tmp_path_factory.mktemp("worlds") / "published"
        return export_world(ExportJob(str(GOLDEN / "published_tiny"), out), lambda line: None)
