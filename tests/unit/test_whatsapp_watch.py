"""Every way in which neonize says that the connection changed becomes a state, with advice, and maybe an end."""

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from bot.transports.base import ConnectionChanged, ConnectionState, PairingCode, TransportEvent
from bot.transports.whatsapp import library
from bot.transports.whatsapp.ids import People
from bot.transports.whatsapp.invitation import Invitation
from bot.transports.whatsapp.link import Link
from bot.transports.whatsapp.patience import Patience
from bot.transports.whatsapp.state import State
from bot.transports.whatsapp.verdicts import End
from bot.transports.whatsapp.watch import Watch
from storage.models import Jid

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
CLOSED_PORT = "http://127.0.0.1:9"


class World:
    """A watch over a real link that is never started."""

    def __init__(self, patience: Patience = Patience()) -> None:  # noqa: B008 - frozen
        neonize = library.load()
        self.delivered: list[TransportEvent] = []
        self.announced = 0
        self.doubts: list[str] = []
        self.is_there = True
        device = "5511999990000:3@s.whatsapp.net"
        self.link = Link(neonize, name="shop", store_url="postgres://u@h/x", device=device, proxy=CLOSED_PORT)
        # As neonize tells it at the start of a linked client.
        account = neonize.protocol.JID(User="5511999990000", Device=3, Server="s.whatsapp.net")
        self.link._client.me = neonize.protocol.Device(JID=account)
        people = People([Jid("5511999990000@s.whatsapp.net")])
        self.now = NOW
        self.state = State(lambda: self.now, people)
        self.state.tell(self.delivered.append)
        self.watch = Watch(
            self.link,
            self.state,
            people,
            self.delivered.append,
            lambda: self.now,
            patience,
            Invitation(None, self.delivered.append, lambda: self.now),
            on_qr_phase=lambda: None,
            on_connected=self._announce,
            on_doubt=self.doubts.append,
            confirm=self._ask,
        )

    def _ask(self, then: Callable[[], None]) -> None:
        if self.is_there:
            then()

    def _announce(self) -> None:
        self.announced += 1

    def tell(self, name: str, **fields: Any) -> None:
        """As neonize would: `name` is the event's."""
        event = getattr(library.load().protocol, name)(**fields)
        self.watch.handlers[f"{name}Ev"](event)

    async def a_moment(self) -> None:
        """Whatever was to be done after no time at all is done by then."""
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(0.001, over.set)
        await over.wait()

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
    world.tell("Disconnected", status=True)
    assert not world.state.connection.can_send
    assert not world.state.connection.can_receive
    world.tell("Connected", status=True)
    assert world.states == [
        ConnectionState.CONNECTED,
        ConnectionState.RECONNECTING,
        ConnectionState.CONNECTED,
    ]
    assert world.announced == 2
    assert world.end is None
    world.watch.cancel_timer()


async def test_who_is_let_in_is_connected_though_the_library_does_not_say_so() -> None:
    world = World(Patience(let_in=dt.timedelta(0)))
    world.tell("OfflineSyncCompleted", Count=0)
    assert world.states == []
    await world.a_moment()
    assert world.states == [ConnectionState.CONNECTED]
    assert world.announced == 1
    # What has waited may also come after the library's word.
    world.tell("Connected", status=True)
    world.tell("OfflineSyncCompleted", Count=0)
    await world.a_moment()
    assert world.states == [ConnectionState.CONNECTED]
    assert world.announced == 2


async def test_who_is_let_in_and_lost_is_not_connected() -> None:
    world = World(Patience(let_in=dt.timedelta(0)))
    world.tell("OfflineSyncCompleted", Count=0)
    world.tell("Disconnected", status=True)
    await world.a_moment()
    assert world.states == [ConnectionState.RECONNECTING]
    world.watch.cancel_timer()


async def test_the_librarys_next_try_is_told_at_each_look(world: World) -> None:
    world.tell("Connected", status=True)
    world.tell("Disconnected", status=True)
    for elapsed, next_try in ((0.0, 2), (1.9, 2), (2.1, 6), (6.5, 12), (60.0, 72)):
        world.now = NOW + dt.timedelta(seconds=elapsed)
        assert world.state.connection.next_try == NOW + dt.timedelta(seconds=next_try)
    world.tell("Connected", status=True)
    assert world.state.connection.next_try is None
    world.watch.cancel_timer()


async def test_an_unanswered_keepalive_is_a_question_and_no_end(world: World) -> None:
    world.tell("Connected", status=True)
    world.tell("KeepAliveTimeout", ErrorCount=1)
    assert len(world.doubts) == 1
    assert world.states == [ConnectionState.CONNECTED]
    assert world.end is None


async def test_while_whatsapp_owes_an_answer_nothing_is_sent_but_all_is_heard(world: World) -> None:
    world.tell("Connected", status=True)
    world.state.show_doubt("no acknowledgement")
    doubtful = world.state.connection
    assert (doubtful.state, doubtful.can_send, doubtful.can_receive, doubtful.advice) == (
        ConnectionState.CONNECTED, False, True, "no acknowledgement",
    )  # fmt: skip
    world.tell("KeepAliveRestored")
    assert world.state.connection.can_send
    assert world.state.connection.advice is None


async def test_a_connection_that_is_closed_again_and_again_is_left_alone(world: World) -> None:
    for _ in range(Patience().most_losses):
        assert world.end is None
        world.tell("Connected", status=True)
        world.tell("Disconnected", status=True)
        world.now += dt.timedelta(seconds=2)
    assert world.end is End.REJECTED
    assert not world.watch.has_held
    assert world.state.connection.advice


async def test_losses_far_apart_are_nothing_special(world: World) -> None:
    for _ in range(2 * Patience().most_losses):
        world.tell("Connected", status=True)
        world.tell("Disconnected", status=True)
        world.now += dt.timedelta(minutes=5)
    assert world.end is None
    assert world.watch.has_held
    world.watch.cancel_timer()


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
        ("ConnectFailure", ConnectionState.RECONNECTING, End.REJECTED),
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


async def test_a_ban_tells_how_long_and_why(world: World) -> None:
    codes = library.load().protocol.TemporaryBan
    world.tell("TemporaryBan", Code=codes.BLOCKED_BY_USERS, Expire=7200)
    assert world.watch.verdict is not None
    assert world.watch.verdict.ban == dt.timedelta(hours=2)
    assert "for 2 h (" in str(world.state.connection.advice)
    assert "readers have blocked it" in str(world.state.connection.advice)


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("LOGGED_OUT", ConnectionState.LOGGED_OUT),
        ("MAIN_DEVICE_GONE", ConnectionState.LOGGED_OUT),
        ("UNKNOWN_LOGOUT", ConnectionState.BANNED),
    ],
)
async def test_a_logout_tells_who_is_in_trouble(world: World, reason: str, state: ConnectionState) -> None:
    reasons = library.load().protocol
    world.tell("LoggedOut", OnConnect=True, Reason=reasons.ConnectFailureReason.Value(reason))
    assert world.states == [state]
    assert world.end is End.FINAL


async def test_a_client_that_whatsapp_does_not_take_is_outdated(world: World) -> None:
    reasons = library.load().protocol
    world.tell("ConnectFailure", Reason=reasons.ConnectFailureReason.Value("BAD_USER_AGENT"))
    assert world.states == [ConnectionState.OUTDATED]
    assert world.end is End.FINAL


async def test_an_unknown_rejection_tells_its_number(world: World) -> None:
    protocol = library.load().protocol
    raw = protocol.Node(Tag="failure", Attrs=[protocol.NodeAttrs(name="reason", text="418")])
    world.tell("ConnectFailure", Raw=raw)
    assert "418" in str(world.state.connection.advice)


async def test_nothing_is_told_after_the_end(world: World) -> None:
    world.tell("LoggedOut")
    world.tell("Connected", status=True)
    world.watch.on_qr_over("timeout")
    assert world.states == [ConnectionState.LOGGED_OUT]
    assert world.end is End.FINAL


async def test_each_qr_is_told_with_one_advice(world: World) -> None:
    world.watch.on_qr("one")
    world.watch.on_qr("two")
    assert [event.text for event in world.delivered if isinstance(event, PairingCode)] == ["one", "two"]
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


async def test_a_login_without_a_connection_is_none() -> None:
    world = World()
    world.tell("Connected")
    world.tell("Disconnected")
    world.is_there = False
    world.tell("Connected")
    assert world.states == [ConnectionState.CONNECTED, ConnectionState.RECONNECTING]
    world.is_there = True
    world.tell("Connected")
    assert world.states[2:] == [ConnectionState.CONNECTED]
    world.watch.cancel_timer()
