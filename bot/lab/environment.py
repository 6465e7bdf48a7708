"""The environment as Go finds it: the array that the kernel put on the stack. Lends it one variable, no more.

A Go library that is loaded into a running process does not ask the C library, as `os.environ` does; it
walks the array behind `argv`. What Python sets may land there or elsewhere: a new variable makes the C
library move its own array away.
"""

import ctypes
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.lab.errors import UnexpectedLibrary

_PROCESS = Path("/proc/self")
_ARG_START = 47  # which field of /proc/self/stat, from 0: where the text of argv[0] begins
_WORD = struct.calcsize("P")
# What a Go library may look up. Another variable has to make room, and none of these may.
_LOOKED_UP = re.compile(r"GO|SSL_|NEONIZE_|HTTP|NO_PROXY|ALL_PROXY|HOME$|PATH$|TMPDIR$|TZ$|PG", re.IGNORECASE)


@contextmanager
def lent(name: str, value: str) -> Iterator[None]:
    """Within the block, this variable stands where it was, or where one was that Go does not look up."""
    slot = ctypes.c_size_t.from_address(_slot(name))
    text = ctypes.create_string_buffer(f"{name}={value}".encode())
    before, slot.value = slot.value, ctypes.addressof(text)
    try:
        yield
    finally:
        slot.value = before


def _slot(name: str) -> int:
    entries = list(_entries())
    same = [slot for slot, variable in entries if variable == name]
    idle = [slot for slot, variable in entries if not _LOOKED_UP.match(variable)]
    for slot in (*same, *idle, *(slot for slot, _ in entries)):
        return slot
    raise UnexpectedLibrary("this process's environment is empty: there is no room for the lab's certificate")


def _entries() -> Iterator[tuple[int, str]]:
    """The address of each entry and the name of its variable."""
    slot = _environment()
    while text := ctypes.c_size_t.from_address(slot).value:
        yield slot, ctypes.string_at(text).partition(b"=")[0].decode(errors="replace")
        slot += _WORD


def _environment() -> int:
    """The address of the first entry: argc, the arguments, a null, and then the environment."""
    stack, data = _stack()
    words = memoryview(data).cast("P")
    first_argument = int(_stat_fields()[_ARG_START])
    # From the top: the array is above all frames, which may hold the same address.
    for i in range(len(words) - 1, 0, -1):
        count = words[i - 1]
        if words[i] == first_argument and 0 < count < len(words) - i and words[i + count] == 0:
            return stack + (i + count + 1) * _WORD
    raise UnexpectedLibrary("this process's arguments are not where Linux puts them")


def _stack() -> tuple[int, bytes]:
    maps = (_PROCESS / "maps").read_text()
    found = re.search(r"^([0-9a-f]+)-([0-9a-f]+) .*\[stack\]$", maps, re.MULTILINE)
    if found is None:
        raise UnexpectedLibrary("the lab needs a Linux that shows a process its own stack")
    start, end = (int(edge, 16) for edge in found.groups())
    return start, ctypes.string_at(start, end - start)


def _stat_fields() -> list[str]:
    """The second field, the program's name, may contain anything; it is in parentheses."""
    head, _, tail = (_PROCESS / "stat").read_text().rpartition(")")
    return ["", head, *tail.split()]
