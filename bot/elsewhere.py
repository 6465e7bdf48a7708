"""What is said of a number whose link is in another database: where it is, and how not to link it twice.

A number that has moved is served there. In a store that was restored without links, nobody has brought it yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.models import Account


def told(account: Account) -> str | None:
    """Where the link is, and what to do here; None for an account that may be served and paired."""
    if account.moved_to is None:
        return None
    if account.jid is None:
        return f"moved to {account.moved_to}, which serves it"
    return (
        f"its link is not in this database but in {account.moved_to}: bring it from there with "
        f"`sidestep account move {account.name}`, or, where that store will never run again, "
        f"link it anew with `{anew(account)}`"
    )


def anew(account: Account) -> str:
    return f"sidestep pair --account {account.name} --again"


def refusal_to_pair(account: Account) -> str:
    """A phone takes a second device without a word."""
    return (
        f"{account.name} is not linked here, as its link is in {account.moved_to}: linked here too, each message is "
        f"answered twice. Where it will never be served there again: {anew(account)}"
    )


def refusal_to_serve(moved: Sequence[Account]) -> str:
    """No number is here; `moved` are elsewhere, or there is none at all."""
    if not moved:
        return "there is no number to serve: add one with sidestep account add NAME, then link it"
    where = ", ".join(f"{account.name} is in {account.moved_to}" for account in moved)
    return (
        f"there is no number to serve here, as the links were moved, or stayed where they were: {where}. Start the "
        "daemon with that database, as DATABASE_URL, or bring the link here with `sidestep account move` there. Linked "
        "here too, each message is answered twice; where it will never be served there again: "
        f"{anew(moved[0])}"
    )
