"""The GPU side of the engine: a frame's program captured as one CUDA graph, and what that takes.

Only `runtime.py` imports cuda-python, and only when it is asked to.
"""
