"""`sidestep demo` and `sidestep chat` in a terminal: a person plays the customer, the owner and the admin in turn."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer

from bot.clock import SystemClock
from bot.config import Config, load
from bot.daemon import stop_on_signals
from bot.events import Decided, Event, Events, Said, StatusMoved
from bot.roles import phone_jid
from bot.simulation import CUSTOMER, Line, Simulation, number_of, simulated
from bot.stdin import lines
from bot.temporary import temporary_store
from storage.models import Action, ExternalId, Status

_SAMPLE = Path(__file__).with_name("demo.yaml")

_HELP = """\
You are a customer of the shop. Write something, for example: how much is a cake?
  owner: I will help you    the owner writes from a phone: the bot steps aside
  owner: /resume            … and calls it back
  admin: /status            somebody of the staff asks the bot
  /quit                     the end (or Ctrl-D)
"""

_QUICK = timedelta(seconds=1)
"""A person at a terminal waits for each answer; no number has to look human here."""

_LAST_ANSWER_SECONDS = 15.0
_LONGEST_LINE = 1 << 16

_TOLD = {
    Action.PAUSED: "the bot steps aside",
    Action.RESUMED: "the bot is back",
    Action.IGNORED_PAUSED: "recorded; the bot leaves this to the human",
    Action.IGNORED_GLOBAL_PAUSE: "recorded; the bot is paused everywhere",
    Action.IGNORED_EXCLUDED: "recorded; this chat is excluded",
    Action.IGNORED_OPTED_OUT: "recorded; this customer wants no automatic messages",
    Action.COMMAND_REFUSED: "recorded; not understood, or no command for a customer: nothing was done",
    Action.SUPERSEDED: "recorded; a human answered first",
    Action.FAILED: "no answer could be made; see the log",
}


def sample_config() -> Config:
    """The sample shop, with a quick pace; nothing of the machine's own configuration is read."""
    return load(_SAMPLE, environ={}, dotenv=Path("/nonexistent"))


async def talk(config: Config, database_url: str | None) -> None:
    """Talk until the input ends."""
    events = Events()
    pace = config.pace.model_copy(
        update={
            "debounce": min(config.pace.debounce, _QUICK),
            "max_typing": min(config.pace.max_typing, _QUICK),
        }
    )
    quick = config.model_copy(update={"pace": pace})
    _print("Starting …")
    async with stop_on_signals() as stop, temporary_store(database_url) as database:
        clock = SystemClock()
        async with simulated(quick, database, clock, events) as simulation:
            simulation.daemon.scheduler.start()
            events.listen(_Screen(config).tell)
            _print(_HELP)
            await _unless(stop, _converse(simulation, clock))


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work to its end, or until the event."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, stopping):
        task.cancel()
    await asyncio.gather(working, stopping, return_exceptions=True)
    if working in done:
        working.result()


async def _converse(simulation: Simulation, clock: SystemClock) -> None:
    """Until the input ends, and the last answer is given."""
    # On a database that is kept, the ids of an earlier talk would be taken for repeats.
    talk_id = secrets.token_hex(3).upper()
    number = 0
    async for typed in lines(_LONGEST_LINE):
        # What is typed in another encoding is still said, with a sign for what nobody can read.
        text = typed.decode(errors="replace").strip()
        if text == "/quit":
            break
        number += 1
        line = _line(text, ExternalId(f"DEMO{talk_id}{number}"), simulation)
        if line.who == "admin" and not simulation.admins:
            _print("  (there is no admin in the configuration)")
        elif line.text:
            await simulation.say(line)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_ANSWER_SECONDS):
            await clock.settle()


def _line(text: str, external_id: ExternalId, simulation: Simulation) -> Line:
    who, separator, rest = text.partition(":")
    who = who.strip().lower()
    if not separator or who not in ("owner", "admin", "customer"):
        who, rest = "customer", text
    return Line(
        who=who,
        text=rest.replace("\0", "").strip(),
        external_id=external_id,
        chat=simulation.admins[0] if who == "admin" and simulation.admins else CUSTOMER,
        name=None if who == "owner" else "Ana" if who == "customer" else "Admin",
    )


class _Screen:
    """The daemon's events as a person reads them."""

    def __init__(self, config: Config) -> None:
        tenant = config.tenants[0]
        self._names = {phone_jid(tenant.owner): "to the owner", phone_jid(CUSTOMER): "bot"}
        self._names |= {phone_jid(a): "to the admin" for a in tenant.admins}

    def tell(self, event: Event) -> None:
        match event:
            case Said():
                who = self._names.get(event.due.to, number_of(event.due.to))
                _print(typer.style(f"{who}: ", fg="green", bold=True) + event.due.outgoing.text)
            case StatusMoved() if event.status is Status.CANCELLED:
                _print(typer.style("  (the bot was about to answer, and keeps silent)", dim=True))
            case Decided() if (event.detail or "").endswith("_unanswered"):
                _print(typer.style("  (noted; the bot says nothing here meanwhile)", dim=True))
            case Decided() if event.action in _TOLD:
                _print(typer.style(f"  ({_TOLD[event.action]})", dim=True))
            case _:
                pass


def _print(text: str) -> None:
    typer.echo(text)
