"""The recorded place: a walled court under an open sky, made for worlds that a small network can learn.

A network that paints 30x56 pixels and remembers four frames can keep a place whose every view tells where one
stands. So the court has no room, corridor or doorway: from everywhere its four walls are in sight, each with a
colour and a gate of its own, four pillars of four colours, and a pool in the middle. Nothing lies about that could be
picked up, and nothing on the ground moves. The player's start and the monsters are drawn from the episode's seed.

The map is text (UDMF 1.1) in a WAD: a 12-byte header, then lumps, then a directory of 16-byte entries (offset,
size, name). Textures between TX_START and TX_END are PNG files; ZDoom builds the map's nodes itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from train.data.textures import PANEL_WIDTH, paint_textures

Monsters = Literal["none", "few", "many"]
Point = tuple[float, float]

NAME = "panelled court"  # in recordings: older ones are of ViZDoom's deathmatch map, and name none
PLAYER_START = 1
MONSTER_THINGS = (3004, 9)  # zombieman, shotgun guy
LIGHT_LEVEL = 255
WALL_HEIGHT = 144  # map units; the sky's hills show above it
HALF = 4 * PANEL_WIDTH  # from the middle to a wall, map units
PILLAR_DISTANCE, PILLAR_HALF = 216.0, 32.0  # of a pillar's middle from both axes, and half its width
POOL_RADIUS = 112.0
CLEARANCE = 40.0  # of a start from walls and pillars; the player is 16 units wide on each side
APART = 300.0  # nobody at arm's length in the first frame
MAP_INFO = b'map MAP01 "The court"\n{\nsky1 = "HILLS"\n}\n'


@dataclass(frozen=True)
class Spot:
    """Where something stands, in map units from the court's middle, and where it looks."""

    x: float
    y: float
    angle: int  # degrees, anticlockwise from east


class MapText:
    """UDMF text, grown wall by wall. Every wall shows its face to the right of its direction."""

    def __init__(self) -> None:
        self._vertices: list[Point] = []
        self._sides: list[str] = []
        self._lines: list[str] = []
        self._others: list[str] = []

    def sector(self, floor: str) -> None:
        """One more sector under the open sky, on this ground."""
        self._others.append(
            f'sector {{ heightfloor=0; heightceiling={WALL_HEIGHT}; texturefloor="{floor}"; '
            f'textureceiling="F_SKY1"; lightlevel={LIGHT_LEVEL}; }}'
        )

    def wall(self, start: Point, end: Point, texture: str, sector: int) -> None:
        """A solid wall."""
        side = self._side(f'sector={sector}; texturemiddle="{texture}";')
        self._line(start, end, f"sidefront={side}; blocking=true;")

    def border(self, start: Point, end: Point, right: int, left: int) -> None:
        """Where two sectors meet without a wall."""
        front, back = self._side(f"sector={right};"), self._side(f"sector={left};")
        self._line(start, end, f"sidefront={front}; sideback={back}; twosided=true;")

    def thing(self, kind: int, spot: Spot) -> None:
        """Somebody, at every skill and in every kind of game."""
        skills = " ".join(f"skill{level}=true;" for level in range(1, 6))
        where = f"x={spot.x}; y={spot.y}; angle={spot.angle};"
        self._others.append(f"thing {{ {where} type={kind}; single=true; dm=true; coop=true; {skills} }}")

    def text(self) -> str:
        vertices = [f"vertex {{ x={x}; y={y}; }}" for x, y in self._vertices]
        return "\n".join(['namespace = "zdoom";', *vertices, *self._lines, *self._sides, *self._others, ""])

    def _side(self, fields: str) -> int:
        self._sides.append(f"sidedef {{ {fields} }}")
        return len(self._sides) - 1

    def _line(self, start: Point, end: Point, fields: str) -> None:
        self._lines.append(f"linedef {{ v1={self._vertex(start)}; v2={self._vertex(end)}; {fields} }}")

    def _vertex(self, point: Point) -> int:
        if point not in self._vertices:
            self._vertices.append(point)
        return self._vertices.index(point)


def arena_wad(rng: np.random.Generator, monsters: Monsters) -> bytes:
    """The court as a WAD for one episode: the player's start and the monsters are drawn from `rng`."""
    court = MapText()
    court.sector("GROUND")
    court.sector("POOL")
    _build(court)
    start = _spot(rng)
    court.thing(PLAYER_START, start)
    for _ in range(monster_count(rng, monsters)):
        spot = _spot(rng)
        while np.hypot(spot.x - start.x, spot.y - start.y) < APART:
            spot = _spot(rng)
        court.thing(int(rng.choice(MONSTER_THINGS)), spot)
    lumps = [
        ("ZMAPINFO", MAP_INFO),
        ("MAP01", b""),
        ("TEXTMAP", court.text().encode("ascii")),
        ("ENDMAP", b""),
    ]
    return _write_wad([*lumps, ("TX_START", b""), *paint_textures(WALL_HEIGHT).items(), ("TX_END", b"")])


def monster_count(rng: np.random.Generator, monsters: Monsters) -> int:
    """`few` leaves two episodes in five empty, and never puts more than three into the court."""
    if monsters == "few":
        return int(rng.choice([0, 1, 2, 3], p=[0.4, 0.2, 0.2, 0.2]))
    return 0 if monsters == "none" else 10


def _build(court: MapText) -> None:
    # Clockwise round the court, so that the walls face inwards: north, east, south, west.
    corners = [(-HALF, HALF), (HALF, HALF), (HALF, -HALF), (-HALF, -HALF)]
    for number, side in enumerate(("NORTH", "EAST", "SOUTH", "WEST")):
        (x0, y0), (x1, y1) = corners[number], corners[(number + 1) % 4]
        stops = [(x0 + (x1 - x0) * part, y0 + (y1 - y0) * part) for part in (0, 0.375, 0.625, 1)]
        for start, end, texture in zip(stops, stops[1:], (side, f"{side[0]}GATE", side), strict=False):
            court.wall(start, end, texture, 0)
    for name, east, north in (("NE", 1, 1), ("NW", -1, 1), ("SW", -1, -1), ("SE", 1, -1)):
        x, y, r = PILLAR_DISTANCE * east, PILLAR_DISTANCE * north, PILLAR_HALF
        ring = [
            (x - r, y - r),
            (x + r, y - r),
            (x + r, y + r),
            (x - r, y + r),
        ]  # anticlockwise: faces outwards
        for start, end in zip(ring, [*ring[1:], ring[0]], strict=True):
            court.wall(start, end, f"{name}PILLAR", 0)
    angles = np.arange(16) * np.pi / 8
    pool = [
        (round(POOL_RADIUS * float(np.cos(a)), 1), round(POOL_RADIUS * float(np.sin(a)), 1)) for a in angles
    ]
    for start, end in zip(pool, [*pool[1:], pool[0]], strict=True):
        court.border(start, end, right=0, left=1)


def _spot(rng: np.random.Generator) -> Spot:
    """A place clear of walls and pillars."""
    reach = HALF - CLEARANCE
    while True:
        x, y = (float(value) for value in rng.uniform(-reach, reach, size=2))
        beside = max(abs(abs(x) - PILLAR_DISTANCE), abs(abs(y) - PILLAR_DISTANCE))
        if beside > PILLAR_HALF + CLEARANCE:
            return Spot(round(x, 1), round(y, 1), int(rng.integers(0, 360)))


def _write_wad(lumps: list[tuple[str, bytes]]) -> bytes:
    body, directory = b"", b""
    for name, data in lumps:
        directory += struct.pack("<ii8s", 12 + len(body), len(data), name.encode("ascii"))
        body += data
    return struct.pack("<4sii", b"PWAD", len(lumps), 12 + len(body)) + body + directory
