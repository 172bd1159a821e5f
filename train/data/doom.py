"""Freedoom in ViZDoom, driven by action vectors' worth of keys and mouse motion.

One `DoomGame` is one episode: a fresh engine on a freshly dressed map, so that the same seed gives the same
frames whatever was recorded before. The picture is the 320x180 screen without its outermost four rows,
averaged by area to both frame sizes. Each frame lasts two of Doom's 35 tics a second; a mouse unit is 0.05
degrees, spread over the tics.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.actions import Action
from engine.errors import DiamondError
from train.data.arena import Monsters, arena_wad

TICS_PER_FRAME = 2
FPS = 35 / TICS_PER_FRAME
DEGREES_PER_MOUSE_UNIT = 0.05
SCREEN_ROWS = slice(4, 176)
WARM_UP_TICS = 24  # weapon raised, teleport fog gone, console commands done
FOV, ZOOMED_FOV = 90, 50

KEY_BUTTONS = {
    "w": "MOVE_FORWARD",
    "s": "MOVE_BACKWARD",
    "a": "MOVE_LEFT",
    "d": "MOVE_RIGHT",
    "space": "JUMP",
    "left ctrl": "CROUCH",
    "left shift": "SPEED",
    "1": "SELECT_WEAPON1",
    "2": "SELECT_WEAPON2",
    "3": "SELECT_WEAPON3",
    "r": "USE",
}
KEY_LABELS = {
    "w": "forward",
    "s": "back",
    "a": "left",
    "d": "right",
    "space": "jump",
    "left ctrl": "crouch",
    "left shift": "run",
    "1": "fists",
    "2": "pistol",
    "3": "shotgun",
    "r": "use",
    "left click": "fire",
    "right click": "zoom",
}
BUTTONS = (*KEY_BUTTONS.values(), "ATTACK", "TURN_LEFT_RIGHT_DELTA", "LOOK_UP_DOWN_DELTA")
START_COMMANDS = ("god", "give shotgun", "give bulletcs", "give shell 50")


@dataclass(frozen=True)
class DoomSettings:
    """What a recording of the arena looks like. Frame sizes are (height, width) in pixels."""

    low_res_size: tuple[int, int] = (30, 56)
    full_res_size: tuple[int, int] = (150, 280)
    monsters: Monsters = "few"

    def __post_init__(self) -> None:
        if self.monsters not in ("none", "few", "many"):
            raise DiamondError(
                f"monsters: got {self.monsters!r}", expected="none, few or many", fix="Pass --monsters few."
            )


@dataclass(frozen=True)
class View:
    """What the screen shows, and what the policy may know. Screen uint8 RGB (180, 320, 3), depth uint8 (180,
    320).

    `position` is in map units, `pitch` in degrees above the horizon, `targets` the visible monsters as
    (centre x, centre y, width) in screen pixels, nearest first.
    """

    screen: NDArray[np.uint8]
    depth: NDArray[np.uint8]
    position: tuple[float, float, float]
    pitch: float
    targets: tuple[tuple[float, float, float], ...]


def load_vizdoom() -> ModuleType:
    """The vizdoom module. DiamondError, saying what to install, where it is missing."""
    try:
        import vizdoom
    except ImportError as error:
        raise DiamondError(
            "vizdoom is not installed",
            expected="vizdoom 1.3, which brings the Freedoom game files",
            fix="pip install 'diamond-engine[doom]'",
        ) from error
    return vizdoom


class DoomGame:
    """One seeded episode of the arena. A context manager; `act` returns the next view."""

    def __init__(self, settings: DoomSettings, seed: int) -> None:
        self._vizdoom = load_vizdoom()
        self._zoomed = False
        self._scratch = tempfile.TemporaryDirectory(prefix="diamond-doom-")
        home = Path(str(self._vizdoom.__file__)).parent
        scenario = Path(self._scratch.name) / "arena.wad"
        scenario.write_bytes(arena_wad(np.random.default_rng(seed), settings.monsters))
        self._game = self._configure(home / "freedoom2.wad", scenario, seed)
        try:
            with contextlib.chdir(self._scratch.name):  # the engine leaves folders where it starts
                self._game.init()
            for command in START_COMMANDS:
                self._game.send_game_command(command)
            self._game.make_action([0.0] * len(BUTTONS), WARM_UP_TICS)
        except Exception as error:
            self.close()
            raise DiamondError(
                f"ViZDoom did not start: {str(error).strip()}",
                expected="a working vizdoom 1.3 installation and room for its scratch files",
                fix="Try python -c 'import vizdoom; vizdoom.DoomGame().init()' to see its own message.",
            ) from error

    def _configure(self, iwad: Path, scenario: Path, seed: int) -> Any:
        vd = self._vizdoom
        game = vd.DoomGame()
        game.set_doom_config_path(str(Path(self._scratch.name) / "vizdoom.ini"))
        game.set_doom_game_path(str(iwad))
        game.set_doom_scenario_path(str(scenario))
        game.set_doom_map("map01")
        game.set_doom_skill(3)
        game.set_seed(seed % 2**31)
        game.set_mode(vd.Mode.PLAYER)
        game.set_episode_start_time(1)
        game.set_episode_timeout(0)
        game.set_screen_resolution(vd.ScreenResolution.RES_320X180)
        game.set_screen_format(vd.ScreenFormat.RGB24)
        game.set_depth_buffer_enabled(True)
        game.set_labels_buffer_enabled(True)
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        game.set_render_weapon(True)
        for hide in ("hud", "crosshair", "decals", "messages", "screen_flashes", "particles"):
            getattr(game, f"set_render_{hide}")(False)
        game.set_available_buttons([getattr(vd.Button, name) for name in BUTTONS])
        names = ("POSITION_X", "POSITION_Y", "POSITION_Z", "PITCH")
        game.set_available_game_variables([getattr(vd.GameVariable, name) for name in names])
        # A little weapon bob looks alive; all of it would hide the walk's phase from the model.
        game.add_game_args("+sv_cheats 1 +sv_infiniteammo 1 +movebob 0.1 +vid_fps 0")
        return game

    def view(self) -> View:
        state = self._game.get_state()
        if state is None:
            raise DiamondError(
                "ViZDoom ended the episode early",
                expected="an episode that runs until the recorder stops it",
                fix="Report this with the seed.",
            )
        x, y, z, pitch = (float(value) for value in state.game_variables)
        targets = sorted(
            (
                (label.x + label.width / 2, label.y + label.height / 2, float(label.width))
                for label in state.labels
                if label.object_category == "Monster"
            ),
            key=lambda target: -target[2],
        )
        return View(state.screen_buffer, state.depth_buffer, (x, y, z), -pitch, tuple(targets))

    def act(self, action: Action) -> View:
        """Hold the keys and move the mouse for one frame. Motions are used as given: pass decoded actions."""
        zoom = action.right_click
        if zoom != self._zoomed:
            self._zoomed = zoom
            self._game.send_game_command(f"fov {ZOOMED_FOV if zoom else FOV}")
        degrees = DEGREES_PER_MOUSE_UNIT / TICS_PER_FRAME
        buttons = [float(key in action.keys) for key in KEY_BUTTONS]
        buttons += [float(action.left_click), action.mouse_dx * degrees, -action.mouse_dy * degrees]
        self._game.make_action(buttons, TICS_PER_FRAME)
        return self.view()

    def close(self) -> None:
        with contextlib.suppress(Exception):  # closing an engine that died is not a second error
            self._game.close()
        self._scratch.cleanup()

    def __enter__(self) -> DoomGame:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def crop_and_resize(screen: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The screen without its outer rows, averaged by area: uint8 (180, 320, 3) -> uint8 (*size, 3).

    The sums are whole numbers below 2^24, which float32 holds exactly: every machine rounds to the same
    picture.
    """
    source = screen[SCREEN_ROWS].astype(np.float32)
    H, W, _ = source.shape
    h, w = size
    rows = _area_shares(H, h) @ source.reshape(H, W * 3)
    rows = rows.reshape(h, W, 3).transpose(0, 2, 1).reshape(h * 3, W)
    sums = (rows @ _area_shares(W, w).T).reshape(h, 3, w).transpose(0, 2, 1)  # (h, w, 3)
    return np.rint(sums / np.float32(H * W)).astype(np.uint8)


@functools.cache
def _area_shares(source: int, target: int) -> NDArray[np.float32]:
    """(target, source): source pixel's share in each target pixel, times target; rows sum to source."""
    edges = np.arange(target + 1) * source  # in units of 1/target source pixels
    pixels = np.arange(source) * target
    overlap = np.minimum(edges[1:, None], pixels + target) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None).astype(np.float32)
