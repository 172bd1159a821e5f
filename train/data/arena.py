"""The recorded place: ViZDoom's deathmatch map, dressed for learning.

The map's own script drops monsters without end, and its rooms hold guns that change what the number keys do.
So the map is copied without its script, guns and one-off bonuses, one player start is put where the episode
asks, and so many monsters as the episode wants stand in it from the start. Everything is drawn from the
episode's seed. The WAD layout: a 12-byte header, then lumps, then a directory of 16-byte entries (offset,
size, name).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.errors import DiamondError

Monsters = Literal["none", "few", "many"]

SCRIPT_LUMPS = ("BEHAVIOR", "SCRIPTS")
PLAYER_START = 1
REMOVED_THINGS = {
    PLAYER_START,
    *(2001, 2002, 2003, 2004, 2005, 2006, 82),  # guns: the keys 1 2 3 must always mean the same three
    *(2014, 2015, 2018, 2019),  # bonuses and armour, which vanish when walked over
}
MONSTER_THINGS = (3004, 9)  # zombieman, shotgun guy
LIGHT_LEVEL = 255  # 210 in the original: brighter walls survive being painted 30 pixels high
WALL_HEIGHT = 160  # map units; 268 in the original, too high for the sky to be seen
WALL_TEXTURES = {"north": "STWALL", "east": "COMPBLUE", "south": "STARG1", "west": "STONEW5"}
STEP_TEXTURE = "STONE2"
FLOORS = {"CEIL3_3": "RROCK20", "BLOOD1": "FWATER1", "BFALL1": "FLOOR0_1"}
MAP_INFO = b'map MAP01 "The court"\n{\nsky1 = "P-SKY1"\n}\n'  # bright clouds over hills
KEEP_EVERY = 3  # one item in three stays, as landmarks
COURT = (96.0, 928.0)  # the square court inside its walls, in map units, x and y
POOL_CENTRE, POOL_RADIUS = (512.0, 512.0), 170.0


@dataclass(frozen=True)
class Spot:
    """Where something stands, in map units, and where it looks."""

    x: float
    y: float
    angle: int  # degrees, anticlockwise from east


def dress_map(wad: bytes, rng: np.random.Generator, monsters: Monsters) -> bytes:
    """The WAD with its map rewritten for one episode. DiamondError if it is not the map this module knows."""
    lumps = _read_lumps(wad)
    names = [name for name, _ in lumps]
    if "TEXTMAP" not in names:
        raise DiamondError(
            "deathmatch.wad: holds no TEXTMAP",
            expected="the map that ships with vizdoom 1.3",
            fix="Install vizdoom 1.3 afresh.",
        )
    dressed = [
        (
            name,
            _dress_text(data.decode("latin-1"), rng, monsters).encode("latin-1")
            if name == "TEXTMAP"
            else data,
        )
        for name, data in lumps
        if name not in SCRIPT_LUMPS
    ]
    return _write_wad([("ZMAPINFO", MAP_INFO), *dressed])


def monster_count(rng: np.random.Generator, monsters: Monsters) -> int:
    """`few` leaves two episodes in five empty, and never puts more than three into the court."""
    if monsters == "few":
        return int(rng.choice([0, 1, 2, 3], p=[0.4, 0.2, 0.2, 0.2]))
    return 0 if monsters == "none" else 10


def _dress_text(text: str, rng: np.random.Generator, monsters: Monsters) -> str:
    text = _paint_sides(text)
    text = re.sub(
        r"sector[^{}]*\{([^{}]*)\}", lambda block: f"sector\n{{{_paint_sector(block.group(1))}}}", text
    )
    items = 0

    def keep(block: re.Match[str]) -> str:
        nonlocal items
        kind = re.search(r"type=(\d+);", block.group(0))
        if kind and int(kind.group(1)) in REMOVED_THINGS:
            return ""
        items += 1
        return block.group(0) if items % KEEP_EVERY == 0 else ""

    text = re.sub(r"thing[^{}]*\{[^{}]*\}", keep, text)
    start, count = _spot(rng), monster_count(rng, monsters)
    things = [_thing(PLAYER_START, start)]
    while len(things) < 1 + count:
        spot = _spot(rng)
        if np.hypot(spot.x - start.x, spot.y - start.y) > 300:  # nobody at arm's length in the first frame
            things.append(_thing(int(rng.choice(MONSTER_THINGS)), spot))
    return text + "\n".join(things)


def _paint_sector(fields: str) -> str:
    """One sector: lighter, open to the sky except in the low doorways, floored with grass and water."""
    for old, new in FLOORS.items():
        fields = fields.replace(f'texturefloor="{old}"', f'texturefloor="{new}"')
    if "heightceiling=70;" not in fields:
        fields = fields.replace('textureceiling="CEIL4_1"', 'textureceiling="F_SKY1"')
        fields = re.sub(r"heightceiling=\d+;", f"heightceiling={WALL_HEIGHT};", fields)
    return re.sub(r"lightlevel=\d+;", f"lightlevel={LIGHT_LEVEL};", fields)


def _paint_sides(text: str) -> str:
    """Every wall takes its colour from the side of the court it stands on; the pool's steps are stone."""
    vertices = [
        (float(x), float(y)) for x, y in re.findall(r"vertex[^{}]*\{\s*x=([-\d.]+);\s*y=([-\d.]+);", text)
    ]
    texture_of_side: dict[int, str] = {}
    for fields in re.findall(r"linedef[^{}]*\{([^{}]*)\}", text):
        numbers = {key: int(value) for key, value in re.findall(r"(v1|v2|sidefront|sideback)=(\d+);", fields)}
        (x1, y1), (x2, y2) = vertices[numbers["v1"]], vertices[numbers["v2"]]
        texture = _wall_texture((x1 + x2) / 2 - POOL_CENTRE[0], (y1 + y2) / 2 - POOL_CENTRE[1])
        for side in ("sidefront", "sideback"):
            if side in numbers:
                texture_of_side[numbers[side]] = texture
    index = -1

    def paint(block: re.Match[str]) -> str:
        nonlocal index
        index += 1
        texture = texture_of_side.get(index, STEP_TEXTURE)
        return re.sub(r'(texture(?:top|middle|bottom))="\w+"', rf'\1="{texture}"', block.group(0))

    return re.sub(r"sidedef[^{}]*\{[^{}]*\}", paint, text)


def _wall_texture(x: float, y: float) -> str:
    """The texture of a wall whose middle lies at (x, y) from the pool's centre, in map units."""
    if np.hypot(x, y) < 1.2 * POOL_RADIUS:
        return STEP_TEXTURE
    if abs(x) > abs(y):
        return WALL_TEXTURES["east" if x > 0 else "west"]
    return WALL_TEXTURES["north" if y > 0 else "south"]


def _spot(rng: np.random.Generator) -> Spot:
    """A place on the court's floor, clear of the walls and the sunken pool."""
    while True:
        x, y = rng.uniform(*COURT, size=2)
        if np.hypot(x - POOL_CENTRE[0], y - POOL_CENTRE[1]) > POOL_RADIUS:
            return Spot(round(float(x), 1), round(float(y), 1), int(rng.integers(0, 360)))


def _thing(kind: int, spot: Spot) -> str:
    skills = "".join(f"skill{level}=true;" for level in range(1, 9))
    classes = "".join(f"class{number}=true;" for number in range(1, 9))
    where = f"x={spot.x};y={spot.y};angle={spot.angle};"
    return f"\nthing\n{{\n{where}type={kind};single=true;dm=true;coop=true;{skills}{classes}\n}}\n"


def _read_lumps(wad: bytes) -> list[tuple[str, bytes]]:
    _, count, directory = struct.unpack_from("<4sii", wad)
    lumps = []
    for entry in range(count):
        offset, size, name = struct.unpack_from("<ii8s", wad, directory + 16 * entry)
        lumps.append((name.rstrip(b"\0").decode("ascii"), wad[offset : offset + size]))
    return lumps


def _write_wad(lumps: list[tuple[str, bytes]]) -> bytes:
    body, directory = b"", b""
    for name, data in lumps:
        directory += struct.pack("<ii8s", 12 + len(body), len(data), name.encode("ascii"))
        body += data
    return struct.pack("<4sii", b"PWAD", len(lumps), 12 + len(body)) + body + directory
