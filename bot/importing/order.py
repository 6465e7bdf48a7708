"""The orders in which people write a date; nothing else."""

from enum import StrEnum


class DateOrder(StrEnum):
    """In which order a date's three numbers stand."""

    DMY = "dmy"
    MDY = "mdy"
    YMD = "ymd"
