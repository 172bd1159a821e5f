"""Playing a world: a window, a file of video, recordings of actions. Pixels and policy live here, not in
the engine.

Nothing is imported at this level: each file imports the one library it needs (pyglet, av, tqdm) and no other.
"""
