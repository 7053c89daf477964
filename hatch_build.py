"""Compiles what is written in C while the package is built or installed, where that can be done.

Without a compiler, or with LLM_ROUTER_COMPILE=never, the package is the same in Python alone: its answers are
the same too, and a decision takes longer. LLM_ROUTER_COMPILE=always makes a failure to compile an error.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

SOURCES = (Path("src/llm_router/_text.c"), Path("src/llm_router/classify/_arithmetic.c"))
"""Each is a module; they are compiled for every Python from 3.11 on: only the limited API is used."""

FLAGS = ("-std=c11", "-O2", "-fPIC", "-ffp-contract=off", "-Wall", "-Wextra")


class CannotCompile(Exception):
    """There is no compiler here, or it does not find Python's headers."""


class CustomBuildHook(BuildHookInterface):
    """Called by hatchling for every wheel, those of editable installations included. Only these need what was
    compiled beside the sources; for all others nothing is written there, and what lies there is not taken."""

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("LLM_ROUTER_COMPILE") or "auto"
        if wanted not in ("auto", "always", "never"):
            raise SystemExit(f"error: LLM_ROUTER_COMPILE={wanted} is none of auto, always and never")
        root, editable = Path(self.root), version == "editable"
        if not editable:
            self._folder = tempfile.TemporaryDirectory()
        folder = root if editable else Path(self._folder.name)
        built = {source: folder / built_from(source) for source in SOURCES}
        try:
            for module in built.values():
                remove(module)
            if wanted == "never":
                return
            for source, module in built.items():
                compile_extension(root / source, module)
        except CannotCompile as error:
            if wanted == "always":
                raise SystemExit(
                    f"error: {error}\nhint: install a C compiler and Python's headers"
                ) from error
            self.app.display_warning(f"{error}; the package works without, and decides more slowly")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{next(sys_tags()).platform}"
        if not editable:
            for source, module in built.items():
                build_data["force_include"][str(module)] = str(built_from(source).relative_to("src"))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def built_from(source: Path) -> Path:
    return source.with_suffix(".abi3.so")


def remove(built: Path) -> None:
    """Of an installation before. Raises CannotCompile where it cannot be removed."""
    try:
        built.unlink(missing_ok=True)
    except OSError as error:
        raise CannotCompile(f"{built} cannot be replaced ({error.strerror})") from error


def compile_extension(source: Path, built: Path) -> None:
    """Raises CannotCompile with the compiler's own words about its first error."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") or sys.implementation.name != "cpython":
        raise CannotCompile("this kind of Python has no stable interface for compiled code")
    if sys.byteorder != "little":
        raise CannotCompile("numbers of the weights are little-endian, and this machine is not")
    ways = ("-bundle", "-undefined", "dynamic_lookup") if sys.platform == "darwin" else ("-shared",)
    include = sysconfig.get_path("include")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, built.name)
        command = [*compiler(), *FLAGS, *ways, f"-I{include}", str(source), "-o", str(made), "-lm"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise CannotCompile(f"there is no C compiler ({command[0]}: {error.strerror})") from error
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            first = next((line for line in said if "error" in line), said[0])
            raise CannotCompile(f"the C compiler failed ({first})")
        fresh = built.with_name(f"{built.name}.new")
        try:
            fresh.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(made.read_bytes())
            fresh.chmod(0o755)
            fresh.replace(built)  # a program that has the old file open goes on with it
        except OSError as error:
            raise CannotCompile(f"{built} cannot be written ({error.strerror})") from error


def compiler() -> list[str]:
    """What CC names; else what compiled this Python, which may be of another machine, or else `cc`.
    Raises CannotCompile where CC cannot be read."""
    named = os.environ.get("CC", "")
    try:
        words = shlex.split(named)
    except ValueError as error:
        raise CannotCompile(f"CC={named} cannot be read ({error})") from error
    if words:
        return words
    known = (shlex.split(sysconfig.get_config_var("CC") or "cc"), ["cc"])
    return next((words for words in known if shutil.which(words[0])), ["cc"])
