"""Shapes as SVG and as PNG: what is drawn is there, where and as it was asked for."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import pytest

from llm_router.drawing import Box, Colour, Group, Line, Shape, Sheet, Text, to_png, to_svg, write_whole
from llm_router.errors import InvalidRequest

WHITE: Colour = (255, 255, 255)
RED: Colour = (255, 0, 0)
SVG = "{http://www.w3.org/2000/svg}"


def sheet(*shapes: Shape) -> Sheet:
    return Sheet(100, 60, WHITE, "a title", (Group(shapes),))


def pixels(*shapes: Shape) -> dict[tuple[int, int], tuple[int, ...]]:
    """Colour by place, in pixels of the SVG, of everything that is not paper."""
    Image = pytest.importorskip("PIL.Image")
    image = Image.open(io.BytesIO(to_png(sheet(*shapes)))).convert("RGB")
    found = {}
    for x in range(100):
        for y in range(60):
            colour = image.getpixel((2 * x + 1, 2 * y + 1))
            if min(colour) < 240:
                found[x, y] = colour
    return found


def test_a_colour_may_be_a_word_of_the_page() -> None:
    text = to_svg(sheet(Text(5, 5, "<&>", 10, RED)), {RED: "var(--red)"})
    (written,) = ElementTree.fromstring(text).iter(f"{SVG}text")
    assert (written.get("fill"), written.text) == ("var(--red)", "<&>")
    assert "#ffffff" in text


def test_a_line_goes_through_its_points() -> None:
    line = Line(((10, 10), (50, 10), (50, 40)), RED, 2)
    (drawn,) = ElementTree.fromstring(to_svg(sheet(line))).iter(f"{SVG}polyline")
    assert drawn.get("points") == "10.0,10.0 50.0,10.0 50.0,40.0"
    assert {(30, 10), (50, 25)} <= pixels(line).keys()
    assert (30, 30) not in pixels(line)


def test_a_dashed_line_has_gaps_in_both_formats() -> None:
    ends = ((5.0, 30.0), (95.0, 30.0))
    assert "stroke-dasharray" in to_svg(sheet(Line(ends, RED, 2, dashed=True)))
    whole = sum(place[1] == 30 for place in pixels(Line(ends, RED, 2)))
    dashed = sum(place[1] == 30 for place in pixels(Line(ends, RED, 2, dashed=True)))
    assert 0.4 * whole < dashed < 0.7 * whole


def test_upright_text_runs_up_from_where_it_begins() -> None:
    found = pixels(Text(50, 55, "llllllll", 10, RED, upright=True))
    assert found
    assert all(40 <= x <= 52 and 5 <= y <= 55 for x, y in found)
    assert max(y for _, y in found) - min(y for _, y in found) > max(x for x, _ in found) - min(
        x for x, _ in found
    )


def test_a_light_filling_lets_the_paper_through() -> None:
    box = Box(10, 10, 40, 40, RED, RED, 2, opacity=0.5)
    red, green, blue = pixels(box)[30, 30]
    assert red > 245 and abs(green - 128) < 12 and abs(blue - 128) < 12
    assert 'fill-opacity="0.5"' in to_svg(sheet(box))


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "new" / "file.svg"
    assert write_whole(out, b"first") == out
    assert write_whole(out, b"second").read_bytes() == b"second"
    assert [path.name for path in out.parent.iterdir()] == ["file.svg"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="cannot write"):
        write_whole(tmp_path / "file" / "below.svg", b"")
