"""Plots as SVG, written by hand: panels of lines beside each other, readable in print and on dark pages.

Axes begin at 0, so that a length means what it says, unless a panel says otherwise. Knows nothing of what it draws.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 340, 290  # of a panel, pixels, its legend not counted
LEFT, RIGHT, TOP, BOTTOM = 56, 18, 58, 50
FONT, CHARACTER, ROW = 13, 7, 20  # pixels: size, a character's width at most, a row of a legend
COLOURS = ("#0b6e99", "#c4501b", "#3c7d3f", "#7a4fa3", "#8a6d00", "#b0306a")
_TEXT = f'font-family="Helvetica, Arial, sans-serif" font-size="{FONT}" fill="#222"'
_SWATCH = 26  # pixels: a legend's stroke and the gap behind it
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Line:
    """Points to be joined.

    Attributes:
        name: for the legend.
        points: (x, y).
        dashed: what was computed, not measured.
        joined: whether a stroke connects the points.
        labels: a word beside each point; none if empty.
        hollow: which points are drawn as rings; none if empty. All are where the line is dashed.
    """

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    joined: bool = True
    labels: Sequence[str] = ()
    hollow: Sequence[bool] = ()


@dataclass(frozen=True)
class Panel:
    """One plot: its title, what the axes mean, and its lines.

    Attributes:
        x_ticks: where the x axis has its numbers, if not at round ones; the last one ends it.
        y_from_zero: False lets the y axis begin near the lowest point.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    x_ticks: Sequence[float] = ()
    y_from_zero: bool = True


def draw(panels: Sequence[Panel], caption: str, columns: int = 3) -> str:
    """Panels in rows of `columns`, legends, and the caption below: an SVG document. A shared legend is drawn once."""
    columns = min(columns, len(panels))
    width = WIDTH * columns
    names = [[line.name for line in panel.lines] for panel in panels]
    shared = len(panels) > 1 and all(one == names[0] for one in names)
    legends = [list(_legend(panel.lines, width if shared else WIDTH)) for panel in panels]
    below = max(rows for legend in legends for rows, _ in legend) * ROW
    row_height = HEIGHT if shared else HEIGHT + below + ROW
    words = textwrap.wrap(caption, (width - LEFT) // CHARACTER)
    height = math.ceil(len(panels) / columns) * row_height + (below if shared else 0) + ROW * (len(words) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(caption)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, (panel, legend) in enumerate(zip(panels, legends, strict=True)):
        row, column = divmod(index, columns)
        parts += [f'<g transform="translate({column * WIDTH},{row * row_height})">', *_panel(panel)]
        parts += [] if shared else [entry for _, entry in legend]
        parts.append("</g>")
    if shared:
        lowest = (len(panels) - 1) // columns * row_height
        parts += [f'<g transform="translate(0,{lowest})">', *[entry for _, entry in legends[0]], "</g>"]
    for line, text in enumerate(reversed(words)):
        parts.append(f'<text x="{LEFT}" y="{height - 14 - line * ROW}" {_TEXT}>{escape(text)}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def ticks(most: float, least: float = 0) -> list[float]:
    """Round numbers from `least` or just below to `most` or just above: few, 1, 2 or 5 times a power of ten apart."""
    raw = (most - least or abs(most) or 1) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.floor(least / step + 1e-9)
    last = max(math.ceil(most / step - 1e-9), first + 1)
    return [round(step * k, 12) for k in range(first, last + 1)]


def _panel(panel: Panel) -> list[str]:
    points = [point for line in panel.lines for point in line.points]
    xs = list(panel.x_ticks) or ticks(max(x for x, _ in points))
    heights = [y for _, y in points]
    ys = ticks(max(heights), 0 if panel.y_from_zero else min(heights))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / xs[-1] * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - ys[0]) / (ys[-1] - ys[0]) * (HEIGHT - TOP - BOTTOM),
        )

    (x0, y0), (x1, y1) = at(0, ys[0]), at(xs[-1], ys[-1])
    parts = [
        f'<text x="{LEFT}" y="20" {_TEXT} font-weight="bold">{escape(panel.title)}</text>',
        *([f'<text x="{LEFT}" y="40" {_TEXT}>{escape(panel.y)}</text>'] if panel.y else []),
        f'<text x="{x1:.1f}" y="{y0 + 38:.1f}" {_TEXT} text-anchor="end">{escape(panel.x)}</text>',
    ]
    for value in ys:
        y = at(0, value)[1]
        parts.append(f'<path d="M{x0:.1f} {y:.1f}H{x1:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x0 - 8:.1f}" y="{y + 4.5:.1f}" {_TEXT} text-anchor="end">{value:g}</text>')
    for value in xs:
        x = at(value, ys[0])[0]
        parts.append(f'<path d="M{x:.1f} {y0:.1f}v4" stroke="#888"/>')
        parts.append(f'<text x="{x:.1f}" y="{y0 + 19:.1f}" {_TEXT} text-anchor="middle">{value:g}</text>')
    parts.append(f'<path d="M{x0:.1f} {y1:.1f}V{y0:.1f}H{x1:.1f}" fill="none" stroke="#888"/>')
    taken = [_around(*at(x, y)) for x, y in points]
    labels = []
    for line, colour in zip(panel.lines, _colours(panel.lines), strict=True):
        placed = [at(x, y) for x, y in line.points]
        parts += _line(line, colour, placed)
        for label, point in zip(line.labels, placed, strict=False):
            labels.append(_label(label, colour, point, taken))
    return parts + labels  # words lie above strokes


def _colours(lines: Sequence[Line]) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(len(lines))]


def _line(line: Line, colour: str, points: Sequence[tuple[float, float]]) -> list[str]:
    parts = []
    if line.joined:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    hollow = line.hollow or [line.dashed] * len(points)
    for (x, y), ring in zip(points, hollow, strict=True):
        fill = "#fff" if ring else colour
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
        )
    return parts


def _label(text: str, colour: str, point: tuple[float, float], taken: list[Box]) -> str:
    """A word beside its point: the first place around it where nothing is; what it takes is added to `taken`."""
    (x, y), wide = point, CHARACTER * len(text)
    places = [(x - wide / 2, y - 8), (x - wide / 2, y + 18), (x + 8, y + 4.5), (x - 8 - wide, y + 4.5)]
    places += [(left, base) for base in (y - 8, y + 17) for left in (x + 6, x - 6 - wide)]
    places += [(x - wide / 2, y - 21), (x - wide / 2, y + 31)]
    boxes = [(left, base - FONT + 3, left + wide, base + 1) for left, base in places]
    clear = [
        _inside(box) and not any(_overlap(box, other) for other in taken if other != _around(*point))
        for box in boxes
    ]
    best = clear.index(True) if True in clear else 0
    taken.append(boxes[best])
    left, base = places[best]
    halo = f'{_TEXT.replace("#222", colour)} stroke="#fff" stroke-width="3" paint-order="stroke"'
    return f'<text x="{left:.1f}" y="{base:.1f}" {halo}>{escape(text)}</text>'


def _inside(box: Box) -> bool:
    """Whether a box lies in a panel's plot."""
    return box[0] > LEFT and box[2] < WIDTH and box[1] > TOP - FONT and box[3] < HEIGHT - BOTTOM


def _around(x: float, y: float) -> Box:
    return (x - 5, y - 5, x + 5, y + 5)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _legend(lines: Sequence[Line], width: float) -> Iterator[tuple[int, str]]:
    """For every line how many rows there are so far, and its entry; a row ends where the next entry would not fit."""
    x, row = float(LEFT), 1
    for line, colour in zip(lines, _colours(lines), strict=True):
        needed = _SWATCH + CHARACTER * len(line.name) + 16
        if x > LEFT and x + needed > width:
            x, row = float(LEFT), row + 1
        y = HEIGHT + row * ROW - 6
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        mark = f'<path d="M{x:.1f} {y - 4}h18" stroke="{colour}" stroke-width="2"{dash}/>'
        if not line.joined:
            mark = f'<circle cx="{x + 9:.1f}" cy="{y - 4}" r="4" fill="{colour}"/>'
        yield row, f'{mark}<text x="{x + _SWATCH:.1f}" y="{y}" {_TEXT}>{escape(line.name)}</text>'
        x += needed
