# ruff: noqa: E501 - a form a line
"""Writes conversations as WhatsApp's apps export them, in the forms of many countries; it reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.importing.order import DateOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How one app writes a message. `date` and `time` are strftime's; `halves` replace am and pm."""

    name: str
    date: str
    time: str
    order: DateOrder
    between: str = ", "
    halves: tuple[str, str] | None = None
    half_first: bool = False
    brackets: bool = False
    seconds: bool = False
    digits: str = "0123456789"
    mark: str = ""
    bare: bool = False  # without leading zeros in the date and the hour

    def write(self, at: datetime, sender: str, text: str) -> str:
        """One message with its line end."""
        date, time = at.strftime(self.date), at.strftime(self.time)
        if self.bare:
            date = "/".join(part.lstrip("0") for part in date.split("/"))
            time = time.removeprefix("0")
        if self.halves is not None:
            half = self.halves[at.hour >= 12]
            time = f"{half}{time}" if self.half_first else f"{time}{half}"
        stamp = f"{date}{self.between}{time}".translate(str.maketrans("0123456789", self.digits))
        head = f"{self.mark}[{stamp}] " if self.brackets else f"{self.mark}{stamp} - "
        return f"{head}{sender}: {text}\n"


DMY, MDY, YMD = DateOrder.DMY, DateOrder.MDY, DateOrder.YMD
NARROW = "\u202f"
ARABIC = "٠١٢٣٤٥٦٧٨٩"

FORMS: Sequence[Form] = (
    Form(name="Android, Brazil", date="%d/%m/%Y", time="%H:%M", order=DMY, between=" "),
    Form(name="Android, Britain", date="%d/%m/%Y", time="%H:%M", order=DMY),
    Form(name="Android, United States", date="%m/%d/%y", time="%I:%M", order=MDY, halves=(f"{NARROW}AM", f"{NARROW}PM"), bare=True),
    Form(name="Android, India", date="%d/%m/%y", time="%I:%M", order=DMY, halves=(" am", " pm"), bare=True),
    Form(name="Android, Germany", date="%d.%m.%y", time="%H:%M", order=DMY),
    Form(name="Android, Finland", date="%d.%m.%Y", time="%H.%M", order=DMY, between=" klo "),
    Form(name="Android, Netherlands", date="%d-%m-%Y", time="%H:%M", order=DMY, between=" "),
    Form(name="Android, Sweden", date="%Y-%m-%d", time="%H:%M", order=YMD, between=" "),
    Form(name="Android, Hungary", date="%Y. %m. %d.", time="%H:%M", order=YMD, between=" "),
    Form(name="Android, Mexico", date="%d/%m/%Y", time="%I:%M", order=DMY, halves=("\xa0a.\xa0m.", "\xa0p.\xa0m.")),
    Form(name="Android, Taiwan", date="%Y/%m/%d", time="%I:%M", order=YMD, between=" ", halves=("上午", "下午"), half_first=True),
    Form(name="Android, Greece", date="%d/%m/%y", time="%I:%M", order=DMY, halves=(" π.μ.", " μ.μ.")),
    Form(
        name="Android, Egypt", date="\u200f%d\u200f/%m\u200f/%Y", time="%I:%M", order=DMY, between="، ",
        halves=(" ص", " م"), digits=ARABIC, mark="\u200f",
    ),
    Form(name="Android, Bulgaria", date="%d.%m.%y г.", time="%H:%M ч.", order=DMY),
    Form(name="Android, France", date="%d/%m/%Y", time="%H:%M", order=DMY, between=" à "),
    Form(name="iOS, Brazil", date="%d/%m/%y", time="%H:%M:%S", order=DMY, brackets=True, seconds=True),
    Form(
        name="iOS, United States", date="%m/%d/%y", time="%I:%M:%S", order=MDY, halves=(f"{NARROW}AM", f"{NARROW}PM"),
        brackets=True, seconds=True, bare=True,
    ),
    Form(name="iOS, Germany", date="%d.%m.%y", time="%H:%M:%S", order=DMY, brackets=True, seconds=True),
    Form(
        name="iOS, Korea", date="%Y. %m. %d.", time="%I:%M:%S", order=YMD, between=" ", halves=("오전 ", "오후 "),
        half_first=True, brackets=True, seconds=True,
    ),
    Form(
        name="iOS, Spain", date="%d/%m/%y", time="%H:%M:%S", order=DMY, brackets=True, seconds=True, mark="\u200e",
    ),
)  # fmt: skip
