"""Every way in which neonize says that the connection changed becomes a state, with advice, and maybe an end."""

import datetime as dt
from typing import Any

import pytest

from bot.transports.base import ConnectionChanged, ConnectionState, PairingCode, TransportEvent
from bot.transports.whatsapp import library
from bot.transports.whatsapp.ids import People
from bot.transports.whatsapp.link import Link
from bot.transports.whatsapp.watch import End, State, Watch
from storage.models import Jid

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
CLOSED_PORT = "http://127.0.0.1:9"


class World:
    """A watch over a real link that is never started."""

    def __init__(self) -> None:
        neonize = library.load()
        self.delivered: list[TransportEvent] = []
        self.announced = 0
        device = "5511999990000:3@s.whatsapp.net"
        self.link = Link(neonize, name="shop", store_url="postgres://u@h/x", device=device, proxy=CLOSED_PORT)
        people = People([Jid("5511999990000@s.whatsapp.net")])
        self.state = State(lambda: NOW, people)
        self.state.tell(self.delivered.append)
        self.watch = Watch(self.link, self.state, people, self.delivered.append, self._announce)

    def _announce(self) -> None:
        self.announced += 1

    def tell(self, name: str, **fields: Any) -> None:
        """As neonize would: `name` is the event's."""
        event = getattr(library.load().protocol, name)(**fields)
        self.watch.handlers[f"{name}Ev"](event)

    @property
    def states(self) -> list[ConnectionState]:
        return [event.connection.state for event in self.delivered if isinstance(event, ConnectionChanged)]

    @property
    def end(self) -> End | None:
        return self.watch.ended.result() if self.watch.ended.done() else None


@pytest.fixture
async def world() -> World:
    return World()


async def test_connecting_and_losing_the_connection(world: World) -> None:
    world.tell("Connected", status=True)
    assert world.state.connection.can_send
    world.tell("KeepAliveTimeout", ErrorCount=1)
    assert not world.state.connection.can_send
    world.tell("KeepAliveRestored")
    assert world.states == [
        ConnectionState.CONNECTED,
        ConnectionState.RECONNECTING,
        ConnectionState.CONNECTED,
    ]
    assert world.announced == 2
    assert world.end is None


async def test_a_repeated_state_is_told_once(world: World) -> None:
    world.tell("Connected", status=True)
    world.tell("Connected", status=True)
    assert world.states == [ConnectionState.CONNECTED]


@pytest.mark.parametrize(
    ("name", "state", "end"),
    [
        ("StreamReplaced", ConnectionState.REPLACED, End.FINAL),
        ("LoggedOut", ConnectionState.LOGGED_OUT, End.FINAL),
        ("ClientOutdated", ConnectionState.OUTDATED, End.FINAL),
        ("ConnectFailure", ConnectionState.RECONNECTING, End.FAILED),
        ("TemporaryBan", ConnectionState.BANNED, End.BANNED),
    ],
)
async def test_an_end_has_a_state_and_an_advice(
    world: World, name: str, state: ConnectionState, end: End
) -> None:
    world.tell(name)
    assert world.states == [state]
    assert world.state.connection.advice
    assert world.end is end


async def test_a_ban_is_waited_out(world: World) -> None:
    codes = library.load().protocol.TemporaryBan
    world.tell("TemporaryBan", Code=codes.BLOCKED_BY_USERS, Expire=7200)
    assert world.watch.banned_for == dt.timedelta(hours=2)
    assert "2:00:00" in str(world.state.connection.advice)
    assert "blocked_by_users" in str(world.state.connection.advice)


async def test_nothing_is_told_after_the_end(world: World) -> None:
    world.tell("LoggedOut")
    world.tell("Connected", status=True)
    world.watch.on_qr_over("timeout")
    assert world.states == [ConnectionState.LOGGED_OUT]
    assert world.end is End.FINAL


async def test_each_qr_is_told_with_one_advice(world: World) -> None:
    world.watch.on_qr("one")
    world.watch.on_qr("two")
    assert [event.qr for event in world.delivered if isinstance(event, PairingCode)] == ["one", "two"]
    assert world.states == [ConnectionState.PAIRING]
    world.watch.cancel_timer()


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("success", None),
        ("timeout", End.QR_EXPIRED),
        ("err-client-outdated", End.FINAL),
        ("err-unexpected-state", End.FAILED),
    ],
)
async def test_the_end_of_the_qr_phase(world: World, status: str, end: End | None) -> None:
    world.watch.on_qr_over(status)
    assert world.end is end


async def test_a_failed_pairing_ends_the_link(world: World) -> None:
    status = library.load().protocol.PairStatus
    world.tell("PairStatus", Status=status.ERROR, Error="refused")
    assert world.end is End.FAILED
