"""How the project sets itself up: when make installs, and what our wheel holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("bot", "flows", "storage")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that make looks at, in a folder with a space in its name."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def set_up(folder: Path, *stamps: str) -> None:
    """As after a set-up: the place, the Python, then the stamps, each newer than what it depends on."""
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").symlink_to(sys.executable)
    (folder / ".venv/.place").write_text(f"{folder.resolve()}\n", encoding="utf-8")
    for later, stamp in enumerate(stamps, start=1):
        (folder / ".venv" / stamp).touch()
        moment = (folder / "pyproject.toml").stat().st_mtime + 60 * later
        os.utime(folder / ".venv" / stamp, (moment, moment))
    os.utime(folder / ".venv/.place", (0, 0))


def planned(folder: Path, target: str) -> str:
    """What make would run."""
    make = shutil.which("make")
    assert make is not None
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = [make, "--dry-run", target]
    return subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, text=True).stdout


class TestMake:
    def test_a_fresh_clone_gets_a_venv_and_the_runtime_alone(self, clone: Path) -> None:
        plan = planned(clone, "demo")
        assert ".ci/venv .venv" in plan
        assert "--require-hashes --requirement requirements.lock" in plan
        assert "requirements-dev.lock" not in plan
        assert plan.rstrip().endswith("-m bot demo")

    def test_a_second_call_installs_nothing(self, clone: Path) -> None:
        set_up(clone, ".runtime", ".dev")
        assert planned(clone, "demo") == "exec .venv/bin/python -m bot demo\n"
        assert "install" not in planned(clone, "check")

    def test_a_test_after_a_demo_adds_the_tools(self, clone: Path) -> None:
        set_up(clone, ".runtime")
        plan = planned(clone, "test")
        assert "--requirement requirements-dev.lock" in plan
        assert "--requirement requirements.lock" not in plan

    def test_an_install_that_was_interrupted_is_done_again(self, clone: Path) -> None:
        set_up(clone)
        assert "--requirement requirements.lock" in planned(clone, "demo")

    def test_a_new_lock_is_installed(self, clone: Path) -> None:
        set_up(clone, ".runtime", ".dev")
        later = (clone / ".venv/.dev").stat().st_mtime + 60
        os.utime(clone / "requirements.lock", (later, later))
        assert "--requirement requirements.lock" in planned(clone, "demo")

    def test_a_venv_that_came_along_with_a_moved_folder_is_made_anew(self, clone: Path) -> None:
        set_up(clone, ".runtime", ".dev")
        moved = clone.rename(clone.with_name("elsewhere"))
        assert ".ci/venv .venv" in planned(moved, "demo")

    def test_a_venv_whose_python_is_gone_is_made_anew(self, clone: Path) -> None:
        set_up(clone, ".runtime", ".dev")
        (clone / ".venv/bin/python").unlink()
        (clone / ".venv/bin/python").symlink_to("/nowhere/python")
        assert ".ci/venv .venv" in planned(clone, "demo")

    def test_without_a_python_the_way_out_is_told(self, tmp_path: Path) -> None:
        shell = shutil.which("sh")
        assert shell is not None
        command = [shell, str(ROOT / ".ci/venv"), str(tmp_path / "venv")]
        refused = subprocess.run(command, env={"PATH": ""}, check=False, capture_output=True, text=True)
        assert refused.returncode == 1
        assert "needs Python 3.11 or later" in refused.stderr
        assert "python3-venv" in refused.stderr


class TestRounds:
    def test_no_round_at_all_is_refused(self) -> None:
        command = [sys.executable, "-m", "tests.lab.rounds", "0"]
        refused = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert refused.returncode == 2
        assert refused.stderr.startswith("usage: ")


class TestWheel:
    def test_holds_each_of_our_files_and_nothing_else(self, tmp_path: Path) -> None:
        sources = tmp_path / "sources"
        for name in SOURCES:
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "LICENSE", "README.md"):
            shutil.copyfile(ROOT / name, sources / name)
        build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
        command = [sys.executable, "-W", "ignore", "-c", build, str(tmp_path)]
        subprocess.run(command, cwd=sources, check=True, capture_output=True)
        [wheel] = tmp_path.glob("*.whl")
        held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
        ours = {
            path.relative_to(ROOT).as_posix()
            for name in SOURCES
            for path in (ROOT / name).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert held == ours
