"""Shapes on a sheet, written as SVG or as PNG. No more than what a picture of a flow needs.

Lengths are in pixels of the SVG; the PNG has twice as many in each direction.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from xml.sax.saxutils import escape

from llm_router.errors import MissingExtra

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Colour = tuple[int, int, int]
Anchor = Literal["start", "middle", "end"]

PNG_SCALE = 2
_PNG_COLOURS = 128
_CURVE_STEPS = 48
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
class Text:
    """One line; ``y`` is where its letters stand."""

    x: float
    y: float
    text: str
    size: float
    colour: Colour
    anchor: Anchor = "start"
    bold: bool = False


Shape = Box | Curve | Text


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


def to_svg(sheet: Sheet) -> str:
    """The sheet as one SVG document; it refers to nothing outside itself."""
    size = f"{sheet.width:.0f} {sheet.height:.0f}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{sheet.width:.0f}"'
        f' height="{sheet.height:.0f}" role="img" font-family="{_FONTS}">',
        f"<title>{escape(sheet.title)}</title>",
        f'<rect width="100%" height="100%" fill="{_hex(sheet.background)}"/>',
    ]
    for group in sheet.groups:
        title = f"<title>{escape(group.title)}</title>" if group.title else ""
        lines += [f'<g class="part">{title}', *(_svg(shape) for shape in group.shapes), "</g>"]
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
        _paint(pen, shape, factor)
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.quantize(_PNG_COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def _svg(shape: Shape) -> str:
    if isinstance(shape, Curve):
        middle = (shape.x1 + shape.x2) / 2
        path = f"M{shape.x1:.1f} {shape.y1:.1f}C{middle:.1f} {shape.y1:.1f} {middle:.1f} {shape.y2:.1f}"
        colour = _hex(shape.colour)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in _arrow(shape))
        return (
            f'<path d="{path} {shape.x2:.1f} {shape.y2:.1f}" fill="none" stroke="{colour}"'
            f' stroke-width="{shape.width}"/><polygon points="{points}" fill="{colour}"/>'
        )
    if isinstance(shape, Text):
        weight = ' font-weight="600"' if shape.bold else ""
        return (
            f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size:g}"{weight}'
            f' text-anchor="{shape.anchor}" fill="{_hex(shape.colour)}">{escape(shape.text)}</text>'
        )
    box = (
        f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
        f' rx="{shape.radius:g}" fill="{_hex(shape.fill)}" stroke="{_hex(shape.border)}"/>'
    )
    if shape.bar is None:
        return box
    bar = (
        f'<rect x="{shape.x:.1f}" y="{shape.y + shape.radius:.1f}" width="4"'
        f' height="{shape.height - 2 * shape.radius:.1f}" fill="{_hex(shape.bar)}"/>'
    )
    return box + bar


def _paint(pen: ImageDraw, shape: Shape, factor: float) -> None:
    if isinstance(shape, Curve):
        points = [(x * factor, y * factor) for x, y in _bezier(shape)]
        pen.line(points, fill=shape.colour, width=max(1, round(shape.width * factor)), joint="curve")
        pen.polygon([(x * factor, y * factor) for x, y in _arrow(shape)], fill=shape.colour)
    elif isinstance(shape, Text):
        _write(pen, shape, factor)
    else:
        x, y = shape.x * factor, shape.y * factor
        corner = (x, y, x + shape.width * factor, y + shape.height * factor)
        pen.rounded_rectangle(
            corner, shape.radius * factor, fill=shape.fill, outline=shape.border, width=round(factor)
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
        font = ImageFont.load_default(size)  # type: ignore[assignment] # the font inside Pillow
    side = {"start": "l", "middle": "m", "end": "r"}[shape.anchor]
    pen.text(
        (shape.x * factor, shape.y * factor), shape.text, font=font, fill=shape.colour, anchor=f"{side}s"
    )


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


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
