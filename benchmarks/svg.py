"""Plots as SVG, written by hand: panels of lines beside each other, readable in print and on dark pages.

Axes begin at 0, so that a length means what it says. Knows nothing of what it draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 380, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 40, 58
COLOURS = ("#0b6e99", "#c4501b", "#3c7d3f", "#7a4fa3")
_TEXT = 'font-family="sans-serif" font-size="11" fill="#222"'


@dataclass(frozen=True)
class Line:
    """Points to be joined; `dashed` is what was computed, not measured."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One plot: its title, what the axes mean, and its lines."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]


def draw(panels: Sequence[Panel], caption: str) -> str:
    """The panels in a row, the caption below: an SVG document."""
    width, height = WIDTH * len(panels), HEIGHT + 22
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(caption)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, panel in enumerate(panels):
        parts += [f'<g transform="translate({index * WIDTH},0)">', *_panel(panel), "</g>"]
    parts += [f'<text x="{LEFT}" y="{height - 8}" {_TEXT}>{escape(caption)}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to `most` or just above: few of them, 1, 2 or 5 times a power of ten apart."""
    raw = most / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    return [step * k for k in range(math.ceil(most / step - 1e-9) + 1)]


def _panel(panel: Panel) -> list[str]:
    xs, ys = (ticks(max(point[axis] for line in panel.lines for point in line.points)) for axis in (0, 1))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / xs[-1] * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y / ys[-1] * (HEIGHT - TOP - BOTTOM),
        )

    (x0, y0), (x1, y1) = at(0, 0), at(xs[-1], ys[-1])
    parts = [f'<text x="{LEFT}" y="16" {_TEXT} font-weight="bold">{escape(panel.title)}</text>']
    parts.append(f'<text x="{LEFT - 40}" y="{TOP - 8}" {_TEXT}>{escape(panel.y)}</text>')
    parts.append(f'<text x="{x1:.1f}" y="{y0 + 30:.1f}" {_TEXT} text-anchor="end">{escape(panel.x)}</text>')
    for value in ys:
        y = at(0, value)[1]
        parts.append(f'<path d="M{x0:.1f} {y:.1f}H{x1:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x0 - 6:.1f}" y="{y + 4:.1f}" {_TEXT} text-anchor="end">{value:g}</text>')
    for value in xs:
        x = at(value, 0)[0]
        parts.append(f'<path d="M{x:.1f} {y0:.1f}v4" stroke="#888"/>')
        parts.append(f'<text x="{x:.1f}" y="{y0 + 16:.1f}" {_TEXT} text-anchor="middle">{value:g}</text>')
    parts.append(f'<path d="M{x0:.1f} {y1:.1f}V{y0:.1f}H{x1:.1f}" fill="none" stroke="#888"/>')
    for index, line in enumerate(panel.lines):
        colour = COLOURS[index % len(COLOURS)]
        parts += _line(line, colour, [at(x, y) for x, y in line.points])
        parts += _legend(line, colour, LEFT + index * (WIDTH - LEFT) / len(panel.lines))
    return parts


def _line(line: Line, colour: str, points: list[tuple[float, float]]) -> list[str]:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    fill = "#fff" if line.dashed else colour
    return [
        f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>',
        *[f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{fill}" stroke="{colour}"/>' for x, y in points],
    ]


def _legend(line: Line, colour: str, x: float) -> list[str]:
    y = HEIGHT - 12
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    return [
        f'<path d="M{x:.1f} {y - 4}h18" stroke="{colour}" stroke-width="2"{dash}/>',
        f'<text x="{x + 24:.1f}" y="{y}" {_TEXT}>{escape(line.name)}</text>',
    ]
