"""Recorded actions, given out one a frame, each with what happened just before it. Knows no world."""

from engine.actions import Vector
from engine.player.recording import Event, Recording


class Replay:
    """A place in a recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._next = 0

    @property
    def ended(self) -> bool:
        """Whether every action has been given out."""
        return self._next >= len(self.recording.actions)

    def next(self) -> tuple[list[Event], Vector]:
        """The events that precede the next action, in their order, and that action."""
        assert not self.ended, "ask `ended` first"
        events = [event for event in self.recording.events if event.before == self._next]
        vector = self.recording.action_space.validate(self.recording.actions[self._next])
        self._next += 1
        return events, vector
