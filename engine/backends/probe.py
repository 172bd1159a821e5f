"""Does a backend compute here? One small product, computed and compared: a version string proves nothing.

A runtime may be installed and lack its driver, its device or a library, and some say so only when they first compute.
"""

from base64 import b64decode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import DiamondError
from engine.graphs import GraphSpec, TensorSpec

if TYPE_CHECKING:
    from engine.backends.base import Backend

# y = x @ w, w being 0 to 8 as a 3x3 matrix: an ONNX graph of opset 20; a test makes it anew and compares.
_MODEL = b64decode(
    "CAo6dQoRCgF4CgF3EgF5IgZNYXRNdWwSBXByb2JlKi8IAwgDEAFCAXdKJAAAAAAAAIA/AAAAQAAAQEAAAIBAAACgQAAAwEAA"
    "AOBAAAAAQVoTCgF4Eg4KDAgBEggKAggBCgIIA2ITCgF5Eg4KDAgBEggKAggBCgIIA0IECgAQFA=="
)
_W = np.arange(9, dtype=np.float32).reshape(3, 3)
_X = np.array([[1.0, -2.0, 0.5]], np.float32)
_ROW = TensorSpec("float32", (1, 3))


def probe(backend: "Backend") -> None:
    """Has a backend compute a product of which the result is known.

    Raises:
        DiamondError: it does not load, does not run, or computes something else.
    """
    with TemporaryDirectory(prefix="diamond-engine-") as folder:
        path = Path(folder) / "probe.onnx"
        path.write_bytes(_MODEL)
        try:
            graph = backend.load(GraphSpec("probe", "fp32", path, {"x": _ROW}, {"y": _ROW}))
            y = graph.run({"x": _X})["y"].copy()
            graph.close()
        except DiamondError:
            raise
        except Exception as error:  # whatever a runtime raises when it first computes
            raise DiamondError(
                f"backend {backend.name}: cannot compute here: {type(error).__name__}: {error}",
                "a small product computed",
                "diamond-play --doctor",
            ) from error
    if not np.allclose(y, _X @ _W, rtol=1e-5):
        raise DiamondError(f"backend {backend.name}: computed {y.tolist()}", f"{(_X @ _W).tolist()}")
