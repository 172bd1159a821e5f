"""Plans: what TensorRT compiles a graph into for one GPU. Built, kept, checked and opened here.

Only `flavour.py` imports TensorRT, and only when it is asked to; the GPU is asked through `engine.cuda`.
"""
