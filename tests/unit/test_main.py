"""The console script, before there is a command."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from bot.__main__ import main


class Interrupted(ModuleType):
    """A module in the middle of whose loading somebody types Ctrl-C."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_who_interrupts_the_start_sees_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bot.cli", Interrupted("bot.cli"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
