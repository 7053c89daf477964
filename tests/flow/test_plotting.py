"""Pictures of the Flow: every category is on them, and they lie where they were asked for."""

from __future__ import annotations

import re
import webbrowser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.flow.conftest import settings_for

from llm_router.errors import InvalidRequest
from llm_router.flow import DynamicModelFlow, labels_and_handlers
from llm_router.plotting import drawn, routes_of
from llm_router.sync import SyncRouter
from llm_router.testing.fake_ollama import FakeOllama

pytestmark = pytest.mark.crewai


def plot(out: Path, *, flow: DynamicModelFlow) -> Path:
    return Path(flow.plot(out))


@pytest.fixture
def own_flow(ollama: FakeOllama, own_category: str) -> DynamicModelFlow:
    with SyncRouter(settings=settings_for(ollama.url, own_category)) as router:
        return DynamicModelFlow(router)


@pytest.mark.parametrize("suffix", [".html", ".svg"])
def test_every_category_is_shown_with_its_handler_and_model(
    own_flow: DynamicModelFlow, tmp_path: Path, suffix: str
) -> None:
    text = plot(tmp_path / f"flow{suffix}", flow=own_flow).read_text(encoding="utf-8")
    assert len(own_flow.fleet.categories) == 19
    for category in own_flow.fleet.categories:
        assert f">{category}<" in text
        assert f">run_{category}<" in text
        assert f">{own_flow.fleet.choice_for(category)}<" in text
    assert ">classify_task<" in text
    assert ">route_by_category<" in text


def test_the_picture_lies_exactly_where_it_was_asked_for(flow: DynamicModelFlow, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / "picture.html"
    assert plot(out, flow=flow) == out
    assert [path.name for path in out.parent.iterdir()] == ["picture.html"]


def test_the_page_loads_nothing_from_anywhere(flow: DynamicModelFlow, tmp_path: Path) -> None:
    text = plot(tmp_path / "flow.html", flow=flow).read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img|iframe)|(src|href)=|@import|url\(", text)


def test_the_drawing_is_one_svg_with_an_arrow_per_step(flow: DynamicModelFlow, tmp_path: Path) -> None:
    root = ElementTree.fromstring(plot(tmp_path / "flow.svg", flow=flow).read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//{http://www.w3.org/2000/svg}polygon")) == 1 + 18


def test_the_image_is_a_png_of_the_drawing_at_twice_its_size(flow: DynamicModelFlow, tmp_path: Path) -> None:
    from PIL import Image

    sheet = drawn(routes_of(flow.fleet, labels_and_handlers(flow)))
    with Image.open(plot(tmp_path / "flow.png", flow=flow)) as image:
        assert image.format == "PNG"
        assert image.size == (round(sheet.width * 2), round(sheet.height * 2))
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 20


def test_the_flow_plots_itself_without_opening_a_browser(
    flow: DynamicModelFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.chdir(tmp_path)
    assert flow.plot() == str(tmp_path / "crewai_flow.html")
    assert flow.plot("mine") == str(tmp_path / "mine.html")
    assert opened == []
    flow.plot("shown.html", show=True)
    assert opened == [(tmp_path / "shown.html").as_uri()]


def test_names_of_a_users_file_are_text_and_never_markup(ollama: FakeOllama, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(
        'categories: {"<b>x": {description: "<script>", models: [{model: phi4, quality: 1}]}}',
        encoding="utf-8",
    )
    with SyncRouter(settings=settings_for(ollama.url, str(fleet))) as router:
        text = plot(tmp_path / "flow.html", flow=DynamicModelFlow(router)).read_text(encoding="utf-8")
    assert "<b>" not in text
    assert "<script>" not in text
    assert "&lt;b&gt;x" in text


@pytest.mark.parametrize("name", ["flow.pdf", "flow.html/inside.html"])
def test_a_picture_that_cannot_be_written_is_told_in_one_error(
    flow: DynamicModelFlow, tmp_path: Path, name: str
) -> None:
    (tmp_path / "flow.html").touch()
    with pytest.raises(InvalidRequest, match=r"cannot (draw|write)"):
        plot(tmp_path / name, flow=flow)
