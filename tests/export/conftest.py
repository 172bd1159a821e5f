"""Graphs of a small world, exported once for every test of this room that needs some."""

from pathlib import Path

import pytest

from export.graphs import world_graphs
from export.onnx import export_graph
from tests.export.worlds import random_agent


@pytest.fixture(scope="session")
def small_graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of `random_agent`, with an upsampler of factor 2, for frames of 6 x 8; by role, not to be changed."""
    folder = tmp_path_factory.mktemp("small")
    return {
        definition.role: export_graph(definition, folder / f"{definition.role}.onnx")[0]
        for definition in world_graphs(random_agent(upsampling_factor=2), (6, 8))
    }
