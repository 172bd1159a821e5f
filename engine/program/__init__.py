"""A frame as data: named buffers and an ordered list of launches, which a GPU captures and a test interprets.

A program holds no numbers that depend on noise levels: they live in one coefficient buffer. So two settings of the
sampler that differ in sigmas alone have equal programs.
"""
