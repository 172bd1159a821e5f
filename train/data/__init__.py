"""Recordings: the episode format, the Freedoom recorder, and checks. Nothing here imports torch."""
