"""The lab looks at the loaded library before it trusts what it knows of it, and says what is not as expected."""

import asyncio
import importlib.util
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from bot.lab.library import _WHATSAPP_ROOT

pytestmark = pytest.mark.lab

PREPARE = "from bot.lab import prepare; prepare()"


def altered_neonize(folder: Path, known: bytes, strange: bytes) -> None:
    """neonize as of another version: all as it is, but that its library has other bytes where it had these."""
    spec = importlib.util.find_spec("neonize")
    assert spec is not None
    assert spec.origin is not None
    copy = folder / "neonize"
    copy.mkdir()
    for part in Path(spec.origin).parent.iterdir():
        if part.suffix == ".so":
            binary = part.read_bytes()
            assert known in binary
            (copy / part.name).write_bytes(binary.replace(known, strange))
        elif part.name != "__pycache__":
            (copy / part.name).symlink_to(part)


async def error_of(code: str, python_path: Path | str = "") -> str:
    """The last line of what a program that fails has to say."""
    program = f"import sys; sys.path.insert(0, {str(python_path)!r}); {code}"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=PIPE, stderr=PIPE)
    _, error = await process.communicate()
    assert process.returncode == 1
    return error.decode().splitlines()[-1]


async def test_a_library_with_another_root_is_refused(tmp_path: Path) -> None:
    altered_neonize(tmp_path, _WHATSAPP_ROOT, bytes(32))
    assert await error_of(PREPARE, tmp_path) == (
        "bot.lab.errors.UnexpectedLibrary: WhatsApp's Noise root should be in neonize's writable memory once, "
        "it is there 0 times: the lab does not know this version of neonize"
    )


async def test_a_library_with_another_language_is_refused(tmp_path: Path) -> None:
    altered_neonize(tmp_path, b"xmlstreamstart", b"xmlstreambegin")
    assert await error_of(PREPARE, tmp_path) == (
        "bot.lab.errors.UnexpectedLibrary: neonize's dictionary of single-byte tokens was not found"
    )


async def test_a_library_that_is_loaded_already_is_refused() -> None:
    code = f"from bot.transports.whatsapp import library; library.load(); {PREPARE}"
    assert await error_of(code) == (
        "bot.lab.errors.TooLate: neonize was imported before the lab: "
        "import bot.lab first, or call prepare() earlier"
    )
