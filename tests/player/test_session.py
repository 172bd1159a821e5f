"""The rules of play, frame by frame, without a window or a clock."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from engine.actions import KEYBOARD_MOUSE_51 as SPACE
from engine.actions import Action, Vector
from engine.errors import DiamondError
from engine.player.controller import Controller
from engine.player.keymap import Command
from engine.player.playable import Pixels
from engine.player.recorder import Recorder
from engine.player.recording import Recording
from engine.player.session import MESSAGE_FRAMES, Session
from engine.schedule import SamplerConfig
from tests.player.fake_world import WALK, FakeWorld


class Game:
    """A session and what it is made of; `play` collects the frames of some ticks."""

    def __init__(self, script: Recording | None = None, target: Path | None = None, **options: int) -> None:
        self.world = FakeWorld(seed=options.get("seed", 0))
        self.controller = Controller(mouse_multiplier=1.0)
        self.recorder = Recorder(self.world, self.world.fps, target)
        self.session = Session(
            self.world,
            self.controller,
            self.recorder,
            script=script,
            spawn=options.get("spawn", 0),
            replay=bool(options.get("replay", False)),
            horizon=options.get("horizon"),
        )
        self.session.warm_up()
        self.first = self.session.start().frame

    def play(self, ticks: int) -> list[Pixels]:
        return [played.frame.rgb for _ in range(ticks) if (played := self.session.tick())]


def script(count: int = 3, **fields: object) -> Recording:
    actions = np.array([SPACE.encode(WALK[i % len(WALK)]) for i in range(count)], np.uint8)
    return dataclasses.replace(Recording(actions, SPACE, 50.0), **fields)  # type: ignore[arg-type]


def test_input_of_the_human_reaches_the_world() -> None:
    game = Game()
    game.controller.press("w")
    game.play(1)
    assert game.session.status().action == Action(keys=["w"])


def test_warm_up_leaves_no_trace() -> None:
    game = Game(spawn=2)
    assert game.first.index == 0
    np.testing.assert_array_equal(game.first.rgb, FakeWorld().reset(2).rgb)
    assert game.session.status().frame_ms == 0


def test_a_paused_game_plays_nothing_and_a_single_step_plays_one_frame() -> None:
    game = Game()
    game.session.obey(Command.PAUSE)
    assert game.play(3) == []
    game.session.obey(Command.STEP)
    assert len(game.play(3)) == 1
    game.session.obey(Command.PAUSE)
    assert len(game.play(3)) == 3


def test_a_single_step_pauses_a_running_game() -> None:
    game = Game()
    game.session.obey(Command.STEP)
    assert len(game.play(3)) == 1
    assert game.session.status().paused


def test_motion_made_during_a_pause_does_not_count() -> None:
    game = Game()
    game.session.obey(Command.PAUSE)
    game.controller.move(300, 0)
    game.session.obey(Command.PAUSE)
    game.play(1)
    assert game.session.status().action.mouse_dx == 0


def test_reset_goes_to_the_next_spawn_and_around() -> None:
    game = Game(spawn=1)
    spawns = []
    for _ in range(3):
        played = game.session.obey(Command.RESET)
        assert played is not None
        assert played.frame.index == 0
        spawns.append(game.session.status().spawn)
    assert spawns == [2, 0, 1]


def test_the_horizon_resets_a_human_to_the_next_spawn() -> None:
    game = Game(horizon=2)
    game.play(2)
    played = game.session.tick()
    assert played is not None
    assert (played.frame.index, game.world.spawn) == (0, 1)
    assert "horizon of 2 frames" in game.session.status().message


def test_a_script_is_played_and_then_the_human_is_in_control() -> None:
    game = Game(script(3))
    game.controller.press("space")
    keys = [set(game.session.status().action.keys) for _ in range(4) if game.session.tick()]
    assert keys == [{"w"}, {"d"}, {"s"}, {"space"}]
    assert game.session.status().control == "you"
    assert "ended" in game.session.status().message


def test_input_made_during_a_replay_does_not_arrive_at_its_end() -> None:
    game = Game(script(2))
    game.controller.move(300, 0)
    game.controller.press("r")
    game.controller.release("r")
    game.play(3)
    assert game.session.status().action == Action()


def test_control_switches_to_the_actions_of_the_spawn_beginning_with_its_newest() -> None:
    game = Game(spawn=1)
    game.play(5)
    played = game.session.obey(Command.CONTROL)
    assert played is not None
    assert played.frame.index == 0
    assert game.session.status().control == "recording"
    done = [game.session.status().action for _ in range(3) if game.session.tick()]
    assert done == [SPACE.decode(SPACE.encode(action)) for action in WALK]


def test_control_comes_back_in_mid_replay_without_a_reset() -> None:
    game = Game(script(3))
    game.play(1)
    assert game.session.obey(Command.CONTROL) is None
    assert game.session.status().control == "you"
    assert game.session.status().frame_index == 1


def test_a_spawn_without_recorded_actions_says_so() -> None:
    game = Game(spawn=0)
    assert game.session.obey(Command.CONTROL) is None
    assert game.session.status().message == "spawn 0 has no recorded actions: you are in control"
    assert game.session.status().control == "you"


def test_the_recorded_actions_of_a_spawn_end_its_life_and_replay_goes_on_with_the_next() -> None:
    game = Game(spawn=1, replay=1)
    lives = [(game.session.status().spawn, 0)]
    for _ in range(6):
        assert game.session.tick()
        status = game.session.status()
        assert status.control == "recording"
        lives.append((status.spawn, status.frame_index))
    assert lives == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2)]


def published_replay(newest: Vector, next_actions: list[Vector], horizon: int) -> list[Vector]:
    """The actions of one replayed episode as the original plays it: its counter t runs from 0, step t takes
    action t - 1 of the recording (at first the newest of the spawn), and ends the episode once t has come to
    the length of the recording, or after `horizon` steps."""
    played: list[Vector] = []
    while True:
        t = len(played)
        played.append(next_actions[t - 1] if t > 0 else newest)
        if t == len(next_actions) or len(played) >= horizon:
            return played


@pytest.mark.parametrize("horizon", [1, 2, 3, 4, 1000])
def test_a_replayed_life_has_the_actions_of_the_original(horizon: int) -> None:
    newest, *following = (SPACE.encode(action) for action in WALK)
    expected = published_replay(newest, following, horizon)
    assert len(expected) == min(horizon, len(following) + 1)
    game = Game(spawn=1, replay=1, horizon=horizon)
    assert game.session.status().horizon == len(expected)
    game.play(len(expected))
    np.testing.assert_array_equal(game.recorder.recording().actions, expected)
    played = game.session.tick()
    assert played is not None
    assert (played.frame.index, game.world.spawn) == (0, 2)


def test_a_replay_that_comes_to_a_spawn_without_actions_hands_over() -> None:
    game = Game(spawn=2, replay=1)
    assert game.session.replaying
    game.controller.press("space")
    game.play(5)  # three actions, the frame of spawn 0, and a frame of the human
    status = game.session.status()
    assert (status.spawn, status.frame_index, status.control) == (0, 1, "you")
    assert status.message == "spawn 0 has no recorded actions: you are in control"
    assert status.action.keys == {"space"}
    assert not game.session.replaying


def test_reset_during_a_replay_goes_on_replaying_at_the_next_spawn() -> None:
    game = Game(spawn=1, replay=1)
    game.play(2)
    played = game.session.obey(Command.RESET)
    assert played is not None
    assert (played.frame.index, game.world.spawn) == (0, 2)
    assert game.session.status().control == "recording"
    game.play(1)
    assert game.session.status().action == SPACE.decode(SPACE.encode(WALK[0]))


def test_a_human_who_took_over_a_replay_stays_in_control_at_the_horizon() -> None:
    game = Game(spawn=1, replay=1, horizon=5)
    game.play(1)
    game.session.obey(Command.CONTROL)
    assert game.session.status().horizon == 5
    game.play(5)
    assert (game.session.status().spawn, game.session.status().control) == (2, "you")


def test_a_script_is_longer_than_the_horizon_if_it_says_so() -> None:
    game = Game(script(6), horizon=2)
    assert len(game.play(6)) == 6
    assert game.session.status().frame_index == 6


def test_reset_during_a_replay_begins_the_script_again() -> None:
    game = Game(script(3, spawn=2))
    first = game.play(2)
    game.session.obey(Command.RESET)
    np.testing.assert_array_equal(first, game.play(2))


def test_presets_are_switched_around() -> None:
    game = Game()
    seen = []
    for _ in range(2):
        game.session.obey(Command.PRESET)
        seen.append(game.session.status().sampling)
    assert seen == ["quality (3 + 10 steps)", "fast (1 + 1 steps)"]


def test_settings_of_ones_own_are_among_the_presets_that_p_goes_through() -> None:
    own = SamplerConfig(steps=7)
    world = FakeWorld()
    world.set_sampler("denoiser", own)
    session = Session(world, Controller(), Recorder(world, world.fps))
    session.start()
    seen = []
    for _ in range(3):
        session.obey(Command.PRESET)
        seen.append(session.status().sampling)
    assert seen == ["fast (1 + 1 steps)", "quality (3 + 10 steps)", "custom (7 + 1 steps)"]
    assert world.samplers["denoiser"] == own


def test_a_message_stays_for_a_while_only() -> None:
    game = Game(script(1))
    game.play(2)
    assert "ended" in game.session.status().message
    game.play(MESSAGE_FRAMES)
    assert game.session.status().message == ""


def test_a_script_of_another_action_space_is_refused() -> None:
    other = dataclasses.replace(SPACE, keys=SPACE.keys[:-1], labels={})
    with pytest.raises(DiamondError, match="another action space: keys differ"):
        Game(dataclasses.replace(script(), action_space=other))


def test_other_labels_are_not_another_action_space() -> None:
    Game(dataclasses.replace(script(), action_space=dataclasses.replace(SPACE, labels={})))


def test_the_time_of_the_oldest_event_travels_with_its_frame() -> None:
    game = Game()
    played = game.session.tick()
    assert played is not None
    assert played.since_s is None
    game.controller.press("w")
    played = game.session.tick()
    assert played is not None
    assert played.since_s is not None
