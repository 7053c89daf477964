"""How the package is built: what is compiled, where, and what is said where it cannot be."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llm_router.compiled import all_compiled

ROOT = Path(__file__).parents[1]
UNWANTED = os.environ.get("LLM_ROUTER_COMPILE") == "never"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    found = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_it_is_compiled_where_it_can_be(hook: ModuleType) -> None:
    """A build that failed in silence would leave everything in Python alone, and skip the tests here."""
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    if UNWANTED or not (shutil.which(hook.compiler()[0]) and headers):
        pytest.skip("there is no compiler here, or it is not wanted")
    assert all_compiled()


def test_no_compiler_and_one_that_fails_are_told_in_a_line(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source, built = tmp_path / "source.c", tmp_path / "built.so"
    source.write_text("this is no C")
    monkeypatch.setenv("CC", str(tmp_path / "nothing"))
    with pytest.raises(hook.CannotCompile, match="there is no C compiler"):
        hook.compile_extension(source, built)
    monkeypatch.setenv("CC", "false")
    with pytest.raises(hook.CannotCompile, match="failed"):
        hook.compile_extension(source, built)
    monkeypatch.setenv("CC", 'gcc "')
    with pytest.raises(hook.CannotCompile, match=r"CC=gcc \" cannot be read \(No closing quotation\)"):
        hook.compile_extension(source, built)
    assert not built.exists()


def test_what_a_compiler_says_is_told_from_its_first_error_on_in_whatever_letters(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its words come in the user's locale, and names of files in no locale at all."""
    said = b"In file included from caf\xe9.c:1:\ncaf\xe9.h:2: error: no such thing\nand more\n"
    (tmp_path / "said").write_bytes(said)
    (tmp_path / "cc").write_text(f"#!/bin/sh\ncat '{tmp_path}/said' >&2\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    with pytest.raises(hook.CannotCompile, match=r"failed \(caf.+\.h:2: error: no such thing\)"):
        hook.compile_extension(tmp_path / "source.c", tmp_path / "built.so")


def test_the_compiler_is_the_one_that_is_here(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Python that was built elsewhere names a compiler that may not be on this machine."""
    for name in ("cc", "theirs"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(hook.sysconfig, "get_config_var", {"CC": "theirs -pthread"}.get)
    assert hook.compiler() == ["theirs", "-pthread"]
    (tmp_path / "theirs").unlink()
    assert hook.compiler() == ["cc"]
    monkeypatch.setenv("CC", "ccache mine")
    assert hook.compiler() == ["ccache", "mine"]


@pytest.mark.parametrize("place", [0, 1])
def test_the_sources_compile_without_a_warning(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: int
) -> None:
    if not all_compiled() or not shutil.which(hook.compiler()[0]):
        pytest.skip("there is no compiler here, or it is not wanted")
    source = ROOT / hook.SOURCES[place]
    monkeypatch.setattr(hook, "FLAGS", (*hook.FLAGS, "-Werror"))
    built = tmp_path / "built.so"
    hook.compile_extension(source, built)
    assert built.stat().st_size > 10_000
    (tmp_path / "folder").mkdir()
    with pytest.raises(hook.CannotCompile, match="cannot be written"):
        hook.compile_extension(source, tmp_path / "folder")
    with pytest.raises(hook.CannotCompile, match="cannot be replaced"):
        hook.remove(tmp_path / "folder")


@pytest.mark.parametrize("kind", ["standard", "editable"])
@pytest.mark.parametrize("wanted", ["never", "auto", ""])
def test_only_an_editable_installation_writes_beside_the_sources(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str, kind: str
) -> None:
    if not all_compiled() and wanted != "never":
        pytest.skip("there is no compiler here, or it is not wanted")
    beside = [tmp_path / hook.built_from(source) for source in hook.SOURCES]
    for source, built in zip(hook.SOURCES, beside, strict=True):
        built.parent.mkdir(parents=True, exist_ok=True)
        for file in (ROOT / source, *(ROOT / source).parent.glob("*.h")):
            (tmp_path / source.parent / file.name).write_bytes(file.read_bytes())
        built.write_bytes(b"of an installation before")
    monkeypatch.setenv("LLM_ROUTER_COMPILE", wanted)
    build: dict[str, Any] = {"artifacts": [], "force_include": {}}
    builder = hook.CustomBuildHook(str(tmp_path), {}, None, None, "", "wheel")
    builder.initialize(kind, build)
    packed = [Path(path) for path in build["force_include"]]
    if kind == "standard":
        assert all(built.read_bytes() == b"of an installation before" for built in beside)
        places = {"llm_router/_text.abi3.so", "llm_router/classify/_arithmetic.abi3.so"}
        assert set(build["force_include"].values()) == (set() if wanted == "never" else places)
        assert all(path.stat().st_size > 10_000 for path in packed)
    else:
        assert not packed
        assert all(built.exists() == (wanted != "never") for built in beside)
    assert str(build.get("tag", "")).startswith("cp311-abi3-") == (wanted != "never")
    builder.finalize(kind, build, "")
    assert not any(path.exists() for path in packed)


@pytest.mark.parametrize(
    ("wanted", "said"), [("nonsense", "none of auto, always and never"), ("always", "hint: install a C")]
)
def test_a_build_that_cannot_be_as_wanted_is_an_error(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str, said: str
) -> None:
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("LLM_ROUTER_COMPILE", wanted)
    builder = hook.CustomBuildHook(str(tmp_path), {}, None, None, "", "wheel")
    with pytest.raises(SystemExit, match=said):
        builder.initialize("standard", {})
    builder.finalize("standard", {}, "")
