"""A picture of the CrewAI Flow: classify → route → one handler per category with its model.

It is drawn from the structure that CrewAI itself reads out of the flow, and written as a page (.html), a
drawing (.svg) or an image (.png). CrewAI's own page loads scripts, fonts and a logo from the web and ignores
the folder it is given; this one holds everything it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from llm_router.drawing import Box, Colour, Curve, Group, Sheet, Text, to_png, to_svg, write_whole
from llm_router.errors import InvalidRequest
from llm_router.fleet import Fleet

FORMATS = (".html", ".svg", ".png")

_PAPER: Colour = (250, 250, 252)
_WHITE: Colour = (255, 255, 255)
_INK: Colour = (28, 32, 43)
_GREY: Colour = (105, 112, 130)
_BORDER: Colour = (214, 218, 228)
_STEP: Colour = (37, 52, 94)
_KINDS: Mapping[str, tuple[str, Colour]] = {
    "vision": ("needs vision", (190, 82, 148)),
    "tools": ("needs tools", (24, 137, 120)),
    "embedding": ("embeds", (191, 122, 22)),
    "": ("text", (64, 106, 211)),
}

_ROW, _GAP, _TOP, _MARGIN = 44.0, 8.0, 92.0, 32.0
_STEP_X, _STEP_WIDTH, _STEP_HEIGHT = _MARGIN, 170.0, 64.0
_ROUTE_X = _STEP_X + _STEP_WIDTH + 70
_HANDLER_X = _ROUTE_X + _STEP_WIDTH + 180
_HANDLER_WIDTH, _MODEL_WIDTH = 260.0, 280.0


@dataclass(frozen=True, slots=True)
class Route:
    """One way through the flow: the label, its handler, the fleet's choice and all models in order."""

    category: str
    handler: str
    model: str
    models: tuple[str, ...]
    size_gb: float
    kind: str
    when_to_use: str


def picture(out: Path, routes: tuple[Route, ...]) -> Path:
    """Writes the picture to exactly ``out`` and returns its absolute path.

    The suffix says the format; none means .html. Raises InvalidRequest for another suffix or a place that
    cannot be written, and MissingExtra where .png needs Pillow and it is not there.
    """
    out = out.expanduser()
    out = out if out.suffix else out.with_suffix(".html")
    suffix = out.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidRequest(
            f"cannot draw {out.name}",
            why=f"{out.suffix} is not a format it knows",
            hint=f"use one of {', '.join(FORMATS)}",
        )
    sheet = drawn(routes)
    if suffix == ".png":
        data = to_png(sheet)
    else:
        data = (to_svg(sheet) if suffix == ".svg" else _page(sheet, routes)).encode()
    return write_whole(out, data)


def routes_of(fleet: Fleet, labels: Iterable[tuple[str, str]]) -> tuple[Route, ...]:
    """What the fleet says about each (label, handler) that the flow's router can go to."""
    routes = []
    for label, handler in labels:
        category, choice = fleet.category(label), fleet.choice_for(label)
        routes.append(
            Route(
                category=label,
                handler=handler,
                model=choice,
                models=tuple(listed.model for listed in category.models),
                size_gb=fleet.model(choice).size_gb,
                kind=category.requires.capability or "",
                when_to_use=category.when_to_use or category.description,
            )
        )
    return tuple(routes)


def drawn(routes: tuple[Route, ...]) -> Sheet:
    """The layout: two steps on the left, the handlers below each other on the right."""
    height = len(routes) * (_ROW + _GAP) - _GAP
    middle = _TOP + height / 2
    start = _step("classify_task", "start · Router.decide", _STEP_X, middle)
    route = _step("route_by_category", f"router · {len(routes)} labels", _ROUTE_X, middle)
    between = Curve(_STEP_X + _STEP_WIDTH, middle, _ROUTE_X - 8, middle, _STEP, 2.2)
    groups = [Group((between, *start.shapes)), route]
    for index, item in enumerate(routes):
        groups.append(_route(item, _TOP + index * (_ROW + _GAP), middle))
    models = len({item.model for item in routes})
    told = f"{len(routes)} categories, {models} models; the model shown is the fleet's choice"
    head = (Text(_MARGIN, 40, "DynamicModelFlow", 22, _INK, bold=True), Text(_MARGIN, 62, told, 13, _GREY))
    width = _HANDLER_X + _HANDLER_WIDTH + _MODEL_WIDTH + _MARGIN
    title = f"DynamicModelFlow: {told}"
    return Sheet(
        width, _TOP + height + 64, _PAPER, title, (Group(head), *groups, _legend(_TOP + height + 40))
    )


def _step(name: str, told: str, x: float, middle: float) -> Group:
    box = Box(x, middle - _STEP_HEIGHT / 2, _STEP_WIDTH, _STEP_HEIGHT, _STEP, _STEP, 10)
    centre = x + _STEP_WIDTH / 2
    return Group(
        (
            box,
            Text(centre, middle - 3, name, 15, _WHITE, "middle", bold=True),
            Text(centre, middle + 17, told, 12, (199, 208, 235), "middle"),
        )
    )


def _route(route: Route, top: float, middle: float) -> Group:
    colour = _colour(route.kind)
    centre = top + _ROW / 2
    width = _HANDLER_WIDTH + _MODEL_WIDTH
    right = _HANDLER_X + width - 14
    also = len(route.models) - 1
    told = f"{route.size_gb:g} GB" + (f" · {also} more behind it" if also else "")
    return Group(
        (
            Curve(_ROUTE_X + _STEP_WIDTH, middle, _HANDLER_X - 8, centre, colour),
            Box(_HANDLER_X, top, width, _ROW, _WHITE, _BORDER, bar=colour),
            Text(_HANDLER_X + 18, centre - 3, route.category, 14, _INK, bold=True),
            Text(_HANDLER_X + 18, centre + 14, route.handler, 11.5, _GREY),
            Text(right, centre - 3, route.model, 14, colour, "end", bold=True),
            Text(right, centre + 14, told, 11.5, _GREY, "end"),
        ),
        title=f"{route.when_to_use}: {' → '.join(route.models)}",
    )


def _legend(y: float) -> Group:
    shapes: list[Box | Text] = []
    x = _HANDLER_X
    for words, colour in _KINDS.values():
        shapes += [Box(x, y - 10, 12, 12, colour, colour, 3), Text(x + 18, y, words, 12, _GREY)]
        x += 46 + 7 * len(words)
    return Group(tuple(shapes))


def _colour(kind: str) -> Colour:
    return _KINDS.get(kind, _KINDS[""])[1]


def _page(sheet: Sheet, routes: tuple[Route, ...]) -> str:
    rows = "\n".join(
        f"<tr><th>{escape(r.category)}</th><td><code>{escape(r.handler)}</code></td>"
        f"<td>{escape(' → '.join(r.models))}</td><td>{escape(r.when_to_use)}</td></tr>"
        for r in routes
    )
    return _PAGE.format(title=escape(sheet.title), drawing=to_svg(sheet), rows=rows)


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ margin: 2rem auto; max-width: 70rem; padding: 0 1rem; background: #fafafc; color: #1c202b;
  font: 15px/1.5 Inter, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }}
svg {{ width: 100%; height: auto; }}
svg:has(.part:hover) .part {{ opacity: .35; }}
svg:has(.part:hover) .part:hover {{ opacity: 1; }}
table {{ border-collapse: collapse; width: 100%; margin-top: 2rem; }}
th, td {{ text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #d6dae4; vertical-align: top; }}
</style>
<body>
{drawing}
<table>
<thead><tr><th>Category</th><th>Handler</th><th>Models, first choice first</th><th>For</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""
