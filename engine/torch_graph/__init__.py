"""A world's graphs as programs of PyTorch: read from ONNX, exported, kept in the user's own directory, run by
`engine.backends.torch_graph` without a line of model code.
"""
