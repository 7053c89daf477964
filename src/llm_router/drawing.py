"""Shapes on a sheet, written as SVG or as PNG. No more than pictures of a flow and charts need.

Lengths are in pixels of the SVG; the PNG has twice as many in each direction.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast
from xml.sax.saxutils import escape

from llm_router.errors import InvalidRequest, MissingExtra

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, int, int]
Anchor = Literal["start", "middle", "end"]

PNG_SCALE = 2
_PNG_COLOURS = 256
_CURVE_STEPS = 48
_DASH, _DASH_GAP = 5.0, 4.0
_FONTS = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Box:
    """A rounded rectangle, with a coloured bar along its left side where ``bar`` is given."""

    x: float
    y: float
    width: float
    height: float
    fill: Colour
    border: Colour
    radius: float = 8
    bar: Colour | None = None
    opacity: float = 1.0
    """Of the filling, 0 to 1: less lets the sheet's background through."""


@dataclass(frozen=True, slots=True)
class Curve:
    """An S-shaped line from left to right with an arrow head at its end."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: Colour
    width: float = 1.6


@dataclass(frozen=True, slots=True)
class Line:
    """Straight from point to point."""

    points: tuple[tuple[float, float], ...]
    colour: Colour
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """One line; ``y`` is where its letters stand. ``upright`` text is read from below, along ``x``."""

    x: float
    y: float
    text: str
    size: float
    colour: Colour
    anchor: Anchor = "start"
    bold: bool = False
    upright: bool = False


Shape = Box | Curve | Line | Text


@dataclass(frozen=True, slots=True)
class Group:
    """Shapes that belong together; a page highlights them together. ``title`` is shown on hovering."""

    shapes: tuple[Shape, ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    width: float
    height: float
    background: Colour
    title: str
    groups: tuple[Group, ...]

    @property
    def shapes(self) -> Iterator[Shape]:
        """Every shape, lines first, so that boxes lie over them."""
        everything = [shape for group in self.groups for shape in group.shapes]
        yield from (shape for shape in everything if isinstance(shape, Curve))
        yield from (shape for shape in everything if not isinstance(shape, Curve))


def to_svg(sheet: Sheet, names: Mapping[Colour, str] | None = None) -> str:
    """The sheet as one SVG document; it refers to nothing outside itself.

    ``names`` replaces colours by words of CSS, such as ``var(--ink)``: a page then decides what they are.
    """
    names = names or {}
    size = f"{sheet.width:.0f} {sheet.height:.0f}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{sheet.width:.0f}"'
        f' height="{sheet.height:.0f}" role="img" font-family="{_FONTS}">',
        f"<title>{escape(sheet.title)}</title>",
        f'<rect width="100%" height="100%" fill="{_named(sheet.background, names)}"/>',
    ]
    for group in sheet.groups:
        title = f"<title>{escape(group.title)}</title>" if group.title else ""
        lines += [f'<g class="part">{title}', *(_svg(shape, names) for shape in group.shapes), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def to_png(sheet: Sheet) -> bytes:
    """The sheet as a PNG image. Raises MissingExtra without Pillow, which comes with the CrewAI extra."""
    try:
        from PIL import Image, ImageDraw
    except ModuleNotFoundError as error:
        raise MissingExtra.needed("crewai", "a picture as PNG", "PIL") from error
    # Lines are drawn at twice the final size and scaled down, because Pillow draws them without smoothing.
    factor = PNG_SCALE * 2
    image = Image.new("RGB", (round(sheet.width * factor), round(sheet.height * factor)), sheet.background)
    pen = ImageDraw.Draw(image)
    for shape in sheet.shapes:
        _paint(pen, shape, factor, sheet.background)
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    # The octree keeps the few pixels of a rare colour apart; a median cut mixes them into a common one.
    few = small.quantize(_PNG_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(out, "PNG", optimize=True)
    return out.getvalue()


def write_whole(out: Path, data: bytes) -> Path:
    """Replaces the file in one step, so that nobody sees half of it, and returns its absolute path.

    Raises InvalidRequest where it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", delete=False) as file:
            file.write(data)
        temporary = Path(file.name)
        temporary.chmod(0o644)
        temporary.replace(out)
    except OSError as error:
        raise InvalidRequest(
            f"cannot write {out}", why=error.strerror or str(error), hint="choose another place"
        ) from error
    return out.absolute()


def _svg(shape: Shape, names: Mapping[Colour, str]) -> str:
    if isinstance(shape, Curve):
        return _svg_curve(shape, names)
    if isinstance(shape, Line):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        dashes = f' stroke-dasharray="{_DASH} {_DASH_GAP}"' if shape.dashed else ""
        return (
            f'<polyline points="{points}" fill="none" stroke="{_named(shape.colour, names)}"'
            f' stroke-width="{shape.width}" stroke-linejoin="round"{dashes}/>'
        )
    if isinstance(shape, Text):
        weight = ' font-weight="600"' if shape.bold else ""
        turn = f' transform="rotate(-90 {shape.x:.1f} {shape.y:.1f})"' if shape.upright else ""
        return (
            f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size:g}"{weight}{turn}'
            f' text-anchor="{shape.anchor}" fill="{_named(shape.colour, names)}">{escape(shape.text)}</text>'
        )
    return _svg_box(shape, names)


def _svg_curve(shape: Curve, names: Mapping[Colour, str]) -> str:
    middle = (shape.x1 + shape.x2) / 2
    path = f"M{shape.x1:.1f} {shape.y1:.1f}C{middle:.1f} {shape.y1:.1f} {middle:.1f} {shape.y2:.1f}"
    colour = _named(shape.colour, names)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in _arrow(shape))
    return (
        f'<path d="{path} {shape.x2:.1f} {shape.y2:.1f}" fill="none" stroke="{colour}"'
        f' stroke-width="{shape.width}"/><polygon points="{points}" fill="{colour}"/>'
    )


def _svg_box(shape: Box, names: Mapping[Colour, str]) -> str:
    opacity = "" if shape.opacity >= 1 else f' fill-opacity="{shape.opacity:.3g}"'
    box = (
        f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
        f' rx="{shape.radius:g}" fill="{_named(shape.fill, names)}"{opacity}'
        f' stroke="{_named(shape.border, names)}"/>'
    )
    if shape.bar is None:
        return box
    bar = (
        f'<rect x="{shape.x:.1f}" y="{shape.y + shape.radius:.1f}" width="4"'
        f' height="{shape.height - 2 * shape.radius:.1f}" fill="{_named(shape.bar, names)}"/>'
    )
    return box + bar


def _paint(pen: ImageDraw, shape: Shape, factor: float, background: Colour) -> None:
    if isinstance(shape, Curve):
        points = [(x * factor, y * factor) for x, y in _bezier(shape)]
        pen.line(points, fill=shape.colour, width=max(1, round(shape.width * factor)), joint="curve")
        pen.polygon([(x * factor, y * factor) for x, y in _arrow(shape)], fill=shape.colour)
    elif isinstance(shape, Line):
        for stretch in _stretches(shape):
            points = [(x * factor, y * factor) for x, y in stretch]
            pen.line(points, fill=shape.colour, width=max(1, round(shape.width * factor)), joint="curve")
    elif isinstance(shape, Text):
        _write(pen, shape, factor)
    else:
        x, y = shape.x * factor, shape.y * factor
        corner = (x, y, x + shape.width * factor, y + shape.height * factor)
        fill = _mixed(shape.fill, background, shape.opacity)
        pen.rounded_rectangle(
            corner, shape.radius * factor, fill=fill, outline=shape.border, width=round(factor)
        )
        if shape.bar is not None:
            top, bottom = y + shape.radius * factor, corner[3] - shape.radius * factor
            pen.rectangle((x, top, x + 4 * factor, bottom), fill=shape.bar)


def _write(pen: ImageDraw, shape: Text, factor: float) -> None:
    from PIL import ImageFont

    size = shape.size * factor
    try:
        font = ImageFont.truetype("DejaVuSans-Bold.ttf" if shape.bold else "DejaVuSans.ttf", size * 0.92)
    except OSError:
        font = cast("FreeTypeFont", ImageFont.load_default(size))  # the font inside Pillow
    side = {"start": "l", "middle": "m", "end": "r"}[shape.anchor]
    if shape.upright:
        _write_upright(pen, shape, font, factor)
        return
    pen.text(
        (shape.x * factor, shape.y * factor), shape.text, font=font, fill=shape.colour, anchor=f"{side}s"
    )


def _write_upright(pen: ImageDraw, shape: Text, font: FreeTypeFont, factor: float) -> None:
    """Pillow writes only from left to right: the letters become a mask, which is turned and filled."""
    from PIL import Image, ImageDraw

    width, height = math.ceil(font.getlength(shape.text)), math.ceil(shape.size * factor * 1.6)
    mask = Image.new("L", (max(width, 1), height), 0)
    stand = math.ceil(shape.size * factor * 1.2)
    ImageDraw.Draw(mask).text((0, stand), shape.text, font=font, fill=255, anchor="ls")
    back = {"start": width, "middle": width / 2, "end": 0}[shape.anchor]
    place = (round(shape.x * factor - stand), round(shape.y * factor - back))
    pen.bitmap(place, mask.transpose(Image.Transpose.ROTATE_90), fill=shape.colour)


def _bezier(curve: Curve) -> Iterator[tuple[float, float]]:
    """Points of the same cubic curve that the SVG names."""
    middle = (curve.x1 + curve.x2) / 2
    for step in range(_CURVE_STEPS + 1):
        t = step / _CURVE_STEPS
        u = 1 - t
        ends, inner = (u**3, t**3), (3 * u * u * t, 3 * u * t * t)
        x = ends[0] * curve.x1 + (inner[0] + inner[1]) * middle + ends[1] * curve.x2
        y = (ends[0] + inner[0]) * curve.y1 + (inner[1] + ends[1]) * curve.y2
        yield x, y


def _arrow(curve: Curve) -> tuple[tuple[float, float], ...]:
    x, y = curve.x2, curve.y2
    return (x + 6, y), (x - 2, y - 4), (x - 2, y + 4)


def _stretches(line: Line) -> Iterator[Sequence[tuple[float, float]]]:
    """The whole line, or its dashes; these go on around corners, as they do in SVG."""
    if not line.dashed:
        yield line.points
        return
    left, drawing = _DASH, True
    dash: list[tuple[float, float]] = list(line.points[:1])
    for (x1, y1), (x2, y2) in pairwise(line.points):
        length, gone = math.hypot(x2 - x1, y2 - y1), 0.0
        while length - gone > left:
            gone += left
            here = (x1 + (x2 - x1) * gone / length, y1 + (y2 - y1) * gone / length)
            if drawing:
                yield [*dash, here]
            dash, drawing = [here], not drawing
            left = _DASH if drawing else _DASH_GAP
        left -= length - gone
        dash.append((x2, y2))
    if drawing and len(dash) > 1:
        yield dash


def _mixed(colour: Colour, background: Colour, opacity: float) -> Colour:
    if opacity >= 1:
        return colour
    red, green, blue = (
        round(opacity * c + (1 - opacity) * b) for c, b in zip(colour, background, strict=True)
    )
    return red, green, blue


def _named(colour: Colour, names: Mapping[Colour, str]) -> str:
    return names.get(colour) or _hex(colour)


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
