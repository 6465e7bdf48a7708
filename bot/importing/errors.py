"""How an import fails, and what it could not read; no error here quotes what somebody wrote."""

from __future__ import annotations

from dataclasses import dataclass, field


class ImportRefused(Exception):
    """A file cannot be imported as a whole; the text says why and what to do. Nothing of it was recorded."""


@dataclass(slots=True)
class Problems:
    """What was not understood, line by line: all are counted, the first ones are kept."""

    most: int = 20
    left_out: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        """Something that is not recorded."""
        self.left_out += 1
        if len(self.told) < self.most:
            self.told.append(f"line {line}: {reason}")

    def lines(self) -> list[str]:
        """What to show: at most `most`, and how many more there are."""
        more = self.left_out - len(self.told)
        return [*self.told, f"… and {more} more"] if more else list(self.told)
