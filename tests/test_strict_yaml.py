"""Reading YAML strictly: lines survive, ambiguity is refused, nothing but ConfigError comes out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_router import strict_yaml
from llm_router.errors import ConfigError
from llm_router.strict_yaml import Document, convert, parse, read


class Wheel(msgspec.Struct, frozen=True, kw_only=True):
    size: Annotated[int, msgspec.Meta(ge=10, description="inches across")]
    colour: Literal["black", "silver"] = "black"


class Bike(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    electric: bool = False
    wheels: tuple[Wheel, ...] = ()
    spare: Wheel | None = None
    by_place: dict[str, Wheel] = {}
    tags: tuple[Literal["city", "road"], ...] = ()
    weight_kg: Annotated[
        Annotated[float, msgspec.Meta(gt=0, le=50)] | None,
        msgspec.Meta(description="all included"),
    ] = None


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        convert(parse(text, "bike.yaml"), parse(text).values, Bike)
    assert "\n" not in str(caught.value)
    return caught.value


def test_every_key_and_list_item_knows_its_line() -> None:
    document = parse("name: a\n\nwheels:\n  - size: 20\n  - size: 28\n    colour: silver\n")
    assert document.values == {"name": "a", "wheels": [{"size": 20}, {"size": 28, "colour": "silver"}]}
    assert document.line("name") == 1
    assert document.line("wheels") == 3
    assert document.line("wheels", 1) == 5
    assert document.line("wheels", 1, "colour") == 6


def test_a_path_that_is_not_there_takes_the_line_of_its_nearest_parent() -> None:
    document = parse("# bikes\nname: a\nwheels:\n  - size: 20\n")
    assert document.line("wheels", 0, "colour") == 4
    assert document.line("nothing", "at", "all") == 2


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("010", "010"),
        (".nan", ".nan"),
        ("0.30.0", "0.30.0"),
        ("true", True),
        ("False", False),
        ("131_072", 131072),
        ("-5", -5),
        ("1e3", 1000.0),
        ("2.50", 2.5),
        (".5", 0.5),
        ("~", None),
        ("", None),
        ("'12'", "12"),
    ],
)
def test_values_have_the_types_of_yaml_1_2(written: str, value: object) -> None:
    found = parse(f"key: {written}").values["key"]
    assert found == value
    assert type(found) is type(value)


def test_anchors_and_merge_keys_work() -> None:
    document = parse("base: &base {size: 20}\nother:\n  <<: *base\n  colour: silver\n")
    assert document.values["other"] == {"size": 20, "colour": "silver"}


def test_a_file_with_only_comments_is_an_empty_mapping() -> None:
    assert parse("# nothing yet\n").values == {}
    assert parse("").values == {}


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    error = refused("name: a\nwheels:\n  - size: 20\n    size: 28\n")
    assert str(error) == "bike.yaml:4: 'size' is given twice: first on line 3"


def test_a_tab_is_named_as_the_cause() -> None:
    error = refused("name: a\nspare:\n\tsize: 20\n")
    assert str(error).startswith("bike.yaml:3: not valid YAML: ")
    assert error.hint == "the line has a tab; indent with spaces"


def test_an_unclosed_bracket_says_where_it_began() -> None:
    error = refused("name: a\ntags: [city,\n  road\n\n# the end\n")
    assert str(error).startswith("bike.yaml:")
    assert "from line 2" in str(error)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\nspare: size: 20\n", 2),
        ("name: *nobody\n", 1),
        ("name: a\n---\nname: b\n", 2),
        ("name: a\nspare: !!python/object:os.system x\n", 2),
        ("name: a\nspare:\n  ? [1, 2]\n  : 3\n", 3),
        ("name: a\nspare: \x00\n", 2),
    ],
)
def test_text_that_is_not_plain_yaml_is_refused_with_its_line(text: str, line: int) -> None:
    error = refused(text)
    assert error.line == line
    assert str(error).startswith(f"bike.yaml:{line}: not valid YAML: ")


def test_deep_nesting_is_refused_instead_of_ending_the_process() -> None:
    for text in ("[" * 100_000, "{a: " * 100_000, "- " * 100_000):
        error = refused(text)
        assert str(error) == "bike.yaml:1: nested too deeply: more than 50 levels"


def test_aliases_that_multiply_or_contain_themselves_are_refused_quickly() -> None:
    lines = ["a0: &a0 [" + "x, " * 10 + "x]"]
    lines += [f"a{n}: &a{n} [" + f"*a{n - 1}, " * 10 + f"*a{n - 1}]" for n in range(1, 9)]
    began = time.monotonic()
    assert "too many values" in str(refused("\n".join(lines)))
    assert "contain themselves" in str(refused("name: &a [*a]\n"))
    assert time.monotonic() - began < 10


def test_an_unknown_key_is_refused_with_the_key_that_was_meant() -> None:
    error = refused("name: a\nelektric: true\n")
    assert str(error) == "bike.yaml:2: unknown key 'elektric'"
    assert error.hint == "did you mean 'electric'?"


def test_an_unknown_key_without_a_neighbour_lists_the_known_ones() -> None:
    error = refused("name: a\nspare:\n  size: 20\n  zzz: 1\n")
    assert str(error) == "bike.yaml:4: unknown key 'zzz' in spare"
    assert error.hint == "known keys: size, colour"


@pytest.mark.parametrize(
    ("text", "line", "where"),
    [
        ("name: a\nspare: {size: 20, color: silver}\n", 2, "spare"),
        ("name: a\nwheels:\n  - size: 20\n  - size: 20\n    color: silver\n", 5, "wheels.1"),
        ("name: a\nby_place:\n  front:\n    size: 20\n    color: silver\n", 5, "by_place.front"),
    ],
)
def test_unknown_keys_are_found_inside_structs_lists_and_mappings(text: str, line: int, where: str) -> None:
    error = refused(text)
    assert str(error) == f"bike.yaml:{line}: unknown key 'color' in {where}"
    assert error.hint == "did you mean 'colour'?"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("name: 5\n", "bike.yaml:1: name: expected text, got whole number", "put the value in quotes"),
        (
            "name: a\nelectric: yes\n",
            "bike.yaml:2: electric: expected true or false, got text",
            "write true or false",
        ),
        (
            "name: a\nwheels:\n  - size: 5\n",
            "bike.yaml:3: wheels.0.size: expected whole number >= 10, got 5",
            "write a whole number >= 10 (inches across)",
        ),
        (
            "name: a\nwheels: round\n",
            "bike.yaml:2: wheels: expected list, got text",
            "write a list, each entry with its keys: size, colour",
        ),
        (
            "name: a\nspare: [1]\n",
            "bike.yaml:2: spare: expected mapping or nothing, got list",
            "write a mapping with its keys: size, colour",
        ),
        ("electric: true\n", "bike.yaml:1: the key 'name' is missing", "add name: a text"),
        (
            "name: a\nspare: {colour: black}\n",
            "bike.yaml:2: spare: the key 'size' is missing",
            "add size: a whole number >= 10 (inches across)",
        ),
        (
            "name: a\ntags: city\n",
            "bike.yaml:2: tags: expected list, got text",
            "write a list of some of: city, road",
        ),
        (
            "name: a\nby_place: [1]\n",
            "bike.yaml:2: by_place: expected mapping, got list",
            "write one entry per line: name, colon, value",
        ),
        (
            "name: a\nweight_kg: heavy\n",
            "bike.yaml:2: weight_kg: expected number or nothing, got text",
            "write a number > 0 and <= 50 (all included)",
        ),
        (
            "name: a\nweight_kg: 1e400\n",
            "bike.yaml:2: weight_kg: expected number <= 50, got inf",
            "write a number > 0 and <= 50 (all included)",
        ),
        (
            "name: a\nspare:\n  size: 20\n  colour: silber\n",
            "bike.yaml:4: spare.colour: unknown word 'silber'",
            "did you mean 'silver'?",
        ),
        (
            "name: a\nwheels:\n  - size: 20\n    colour: q\n",
            "bike.yaml:4: wheels.0.colour: unknown word 'q'",
            "known: black, silver",
        ),
        (
            "name: a\ntags:\n  - city\n  - raod\n",
            "bike.yaml:4: tags.1: unknown word 'raod'",
            "did you mean 'road'?",
        ),
    ],
)
def test_a_wrong_value_is_one_line_with_file_line_and_key(text: str, message: str, hint: str) -> None:
    error = refused(text)
    assert str(error) == message
    assert error.hint == hint


def test_an_error_names_the_file_that_the_value_stands_in() -> None:
    below = parse("spare:\n  size: 20\n  colour: silver\n", "below.yaml")
    above = parse("# mine\nspare:\n  size: 24\n", "above.yaml")
    laid = Document(above.path, above.values, above.lines, below)
    assert str(laid.error("odd", "spare", "colour")) == "below.yaml:3: odd"
    assert str(laid.error("odd", "spare", "size")) == "above.yaml:3: odd"
    assert str(laid.error("odd", "spare", "weight")) == "above.yaml:2: odd"


def test_a_missing_file_is_one_line_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path / 'none.yaml'}: cannot read the file: No such file or directory"


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the file"):
        read(tmp_path)


def test_text_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: a\ncolour: grün\n".encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:2: the file is not UTF-8 text: byte 0xfc")
    assert caught.value.hint == "save it again with the encoding UTF-8"


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "marked.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\n")
    assert read(path).values == {"name": "a"}


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(strict_yaml.MAX_FILE_BYTES + 1)
    with pytest.raises(ConfigError, match="the file is too large: more than 4,194,304 bytes"):
        read(path)


YAML_LIKE = st.text(alphabet=" \n\t:-[]{},&*!|>'\"#%@`?<~ab01.\\\ufeff\x85\ud800", max_size=60)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), YAML_LIKE))
def test_any_text_either_parses_or_raises_one_line(text: str) -> None:
    try:
        document = parse(text, "any.yaml")
    except ConfigError as error:
        assert str(error).startswith("any.yaml")
        assert "\n" not in str(error)
        assert error.why and error.hint
    else:
        assert document.lines.get(()) is not None or document.values == {}
