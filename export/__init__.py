"""From a trained world to a bundle: graphs, parity gate, assembly. Imports `train` and `engine`; neither imports it."""
