"""Each state of a connection, brought about by the lab and shown by the real neonize, and what comes of it."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from bot.http.health import AccountHealth, DatabaseHealth, Readiness
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE, Timeline
from bot.transports.base import Connection, ConnectionChanged, ConnectionState, Content, SendUnconfirmed
from bot.transports.whatsapp.patience import Patience
from storage.models import Jid
from tests.conftest import until
from tests.lab.transport_bot import TransportBot, make_session_schema, now

pytestmark = pytest.mark.lab

SHORT = Patience(
    login=dt.timedelta(seconds=4),
    acknowledgement=dt.timedelta(seconds=0.5),
    answer=dt.timedelta(seconds=1),
    look=dt.timedelta(seconds=0.3),
    first_retry=dt.timedelta(seconds=0.2),
    last_retry=dt.timedelta(seconds=0.5),
    first_retry_when_rejected=dt.timedelta(seconds=0.4),
    last_retry_when_rejected=dt.timedelta(seconds=0.8),
    ban_margin=dt.timedelta(seconds=0.5),
)


@pytest.fixture
async def bot(empty_dsn: str, lab: Lab, owner: Owner) -> AsyncIterator[TransportBot]:
    """Paired and connected."""
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab, patience=SHORT)
    await bot.pair(owner)
    bot.states = Timeline()  # the story begins here
    yield bot
    await bot.stop()


def readyz(connection: Connection) -> dict[str, Any]:
    """What the health page says of an account with this connection."""
    database = DatabaseHealth(ok=True, since=now())
    account = AccountHealth(name="shop", connection=connection)
    page = Readiness(database=database, accounts=(account,)).as_json()
    return {"ready": page["ready"], **page["accounts"]["shop"]}


async def changes_to(bot: TransportBot, *, can_send: bool, within: float = PATIENCE) -> ConnectionChanged:
    return await bot.states.expect(
        lambda change: change.connection.can_send is can_send, within=within, what=f"can_send={can_send}"
    )


async def waits(bot: TransportBot, state: ConnectionState) -> Connection:
    """In this state, until a moment that it knows."""
    change = await bot.states.expect(
        lambda change: change.connection.state is state and change.connection.next_try is not None,
        what=f"{state}, and until when",
    )
    return change.connection


def states_of(bot: TransportBot) -> list[ConnectionState]:
    return [change.connection.state for change in bot.states]


async def ended(bot: TransportBot) -> None:
    assert bot.running is not None
    await asyncio.wait_for(bot.running, PATIENCE)


async def log_in_again(bot: TransportBot) -> None:
    """As after an evening without a database: a new client, and a login of its own."""
    await bot.transport.suspend()
    await bot.transport.resume()


async def test_a_connected_account_is_ready(bot: TransportBot) -> None:
    page = readyz(bot.transport.connection)
    assert page == {
        "ready": True, "state": "connected", "since": page["since"], "can_send": True, "can_receive": True,
        "next_try": None, "advice": None,
    }  # fmt: skip


async def test_a_network_that_swallows_everything_is_found_by_the_next_send(
    bot: TransportBot, lab: Lab, customer: Customer
) -> None:
    await bot.says(customer.lid, "bom dia")
    with lab.silence():
        sending = asyncio.create_task(bot.says(customer.lid, "olá"))
        doubtful = (await changes_to(bot, can_send=False)).connection
        assert (doubtful.state, doubtful.can_receive) == (ConnectionState.CONNECTED, True)
        assert not readyz(doubtful)["ready"]
        lost = (await bot.reaches(ConnectionState.RECONNECTING)).connection
        assert lost.advice is not None
        # It may have got through before the network went silent: nobody can know.
        with pytest.raises(SendUnconfirmed):
            await sending
    await bot.reaches(ConnectionState.CONNECTED)
    await bot.says(customer.lid, "de novo")
    await customer.hears("de novo")


async def test_an_acknowledgement_that_is_late_costs_no_connection(
    bot: TransportBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    device = owner.linked[0]
    connection = device.connection
    with lab.hold_acks() as held:
        sending = asyncio.create_task(bot.says(customer.lid, "olá"))
        await customer.hears("olá")
        doubtful = (await changes_to(bot, can_send=False)).connection
        assert (doubtful.state, doubtful.can_receive) == (ConnectionState.CONNECTED, True)
        # It can receive, as it says.
        await customer.says("oi")
        await bot.message("oi")
        asked = await lab.stanzas.expect(
            lambda stanza: stanza.node.text("xmlns", "") == "passive", what="the question"
        )
        assert asked.device is device
        await bot.states.expect_none(lambda change: change.connection.can_send, during=0.3)
    assert (await sending).external_id == held.ids[0]
    await changes_to(bot, can_send=True)
    assert device.connection is connection
    assert ConnectionState.RECONNECTING not in states_of(bot)


async def test_quiet_is_not_dead(bot: TransportBot, lab: Lab) -> None:
    said = len(lab.stanzas)
    # Ten looks: each of them local, none a reason to ask WhatsApp. What the library says after a login may still come.
    await bot.states.expect_none(during=10 * SHORT.look.total_seconds())
    asked = [stanza.node for stanza in lab.stanzas[said:] if stanza.node.text("xmlns", "") == "passive"]
    assert asked == []


async def test_a_server_that_takes_the_login_and_says_nothing_is_left(bot: TransportBot, lab: Lab) -> None:
    with lab.silence():
        await log_in_again(bot)
        lost = (await bot.reaches(ConnectionState.RECONNECTING)).connection
        assert not lost.can_receive
        assert readyz(bot.transport.connection)["advice"] is not None
    await bot.reaches(ConnectionState.CONNECTED)


async def test_a_server_that_leaves_the_librarys_questions_open_is_connected_to(
    empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await make_session_schema(empty_dsn)
    bot = TransportBot(empty_dsn, lab, patience=Patience(let_in=dt.timedelta(seconds=1)))
    with lab.ignore_questions("passive") as questions:
        await bot.pair(owner)
        await log_in_again(bot)
        await bot.reaches(ConnectionState.CONNECTED)
        await bot.says(customer.lid, "hello")
        await customer.hears("hello")

        async def has_asked() -> bool:
            return bool(questions.ignored)

        await until(has_asked)  # a busy machine is let in before the library has come to ask
    assert ConnectionState.RECONNECTING not in states_of(bot)
    await bot.stop()


async def test_connections_that_are_refused_are_tried_again_later_and_later(
    bot: TransportBot, lab: Lab
) -> None:
    lab.refuse_connections(3)
    await log_in_again(bot)
    await bot.reaches(ConnectionState.RECONNECTING)
    assert readyz(bot.transport.connection)["state"] == "reconnecting"
    await bot.reaches(ConnectionState.CONNECTED)


async def test_what_the_library_mends_by_itself_tells_its_next_try(bot: TransportBot, lab: Lab) -> None:
    async with lab.outage():
        lost = (await bot.reaches(ConnectionState.RECONNECTING)).connection
        next_try = bot.transport.connection.next_try
        assert next_try is not None
        assert lost.since <= next_try <= now() + dt.timedelta(seconds=12)
        assert readyz(bot.transport.connection)["next_try"] is not None
    await bot.reaches(ConnectionState.CONNECTED)
    assert bot.transport.connection.next_try is None


@pytest.mark.parametrize(
    ("reason", "state", "advice"),
    [
        (401, ConnectionState.LOGGED_OUT, "sidestep pair"),
        (403, ConnectionState.LOGGED_OUT, "on the phone"),
        (405, ConnectionState.OUTDATED, "update"),
        (406, ConnectionState.BANNED, "review"),
        (409, ConnectionState.OUTDATED, "update"),
    ],
)
async def test_a_login_that_is_refused_for_good_is_not_tried_again(
    bot: TransportBot, lab: Lab, reason: int, state: ConnectionState, advice: str
) -> None:
    with lab.refuse_logins(reason) as door:
        await lab.drop()
        await ended(bot)
    assert len(door.refused) == 1
    page = readyz(bot.transport.connection)
    assert (page["state"], page["ready"], page["next_try"]) == (state, False, None)
    assert advice in page["advice"]


async def test_a_ban_is_waited_out_and_not_a_login_sooner(bot: TransportBot, lab: Lab) -> None:
    with lab.refuse_logins(402, code=101, expire=2) as door:
        await lab.drop()
        banned = await waits(bot, ConnectionState.BANNED)
        assert banned.advice is not None
        assert "messages to strangers" in banned.advice
        # Not even an outage of the database, which makes all accounts connect anew, shortens it.
        await log_in_again(bot)
        await waits(bot, ConnectionState.BANNED)
        page = readyz(bot.transport.connection)
        ends_at = dt.datetime.fromisoformat(page["next_try"])
        assert ends_at >= banned.since + dt.timedelta(seconds=2) + SHORT.ban_margin
        assert len(door.refused) == 1
    back = (await bot.reaches(ConnectionState.CONNECTED)).connection
    assert back.since >= ends_at


async def test_a_ban_that_the_library_cannot_name_is_a_ban(bot: TransportBot, lab: Lab) -> None:
    with lab.refuse_logins(402, code=199, expire=60) as door:
        await lab.drop()
        next_try = (await waits(bot, ConnectionState.BANNED)).next_try
        assert next_try is not None
        # The library loses its end, too: the longest that we know of.
        assert next_try > now() + SHORT.ban_without_end - dt.timedelta(minutes=1)
        assert len(door.refused) == 1


@pytest.mark.parametrize(("reason", "told"), [(400, "400"), (418, "unknown")])
async def test_a_login_that_is_refused_for_an_unknown_reason_is_tried_again_by_us(
    bot: TransportBot, lab: Lab, reason: int, told: str
) -> None:
    with lab.refuse_logins(reason) as door:
        await lab.drop()
        refused = (await bot.reaches(ConnectionState.RECONNECTING)).connection
        while f"error {told}" not in (refused.advice or ""):
            refused = (await bot.reaches(ConnectionState.RECONNECTING)).connection
        await door.refused.expect()
        await door.refused.expect(what="another try")
    await bot.reaches(ConnectionState.CONNECTED)


async def test_a_server_in_trouble_is_tried_again_by_the_library(bot: TransportBot, lab: Lab) -> None:
    with lab.refuse_logins(503) as door:
        await lab.drop()
        await door.refused.expect()
        await door.refused.expect(what="another try")
    await bot.reaches(ConnectionState.CONNECTED)
    assert states_of(bot).count(ConnectionState.CONNECTED) == 1
    # A link of ours would have said that WhatsApp does not answer.
    assert not any("does not answer" in (change.connection.advice or "") for change in bot.states)


@pytest.mark.parametrize(("code", "closes"), [("503", False), ("515", True), ("516", True), ("599", False)])
async def test_after_any_stream_error_the_account_is_soon_there_again(
    bot: TransportBot, lab: Lab, owner: Owner, customer: Customer, code: str, closes: bool
) -> None:
    before = owner.linked[0].connection
    lab.close_stream(owner.linked[0], code=code, closes=closes)
    # What each login ends with. Some errors are mended by the library in no time, without a word to us.
    await lab.stanzas.expect(
        lambda stanza: (
            stanza.node.text("xmlns", "") == "passive" and stanza.device.connection not in (None, before)
        ),
        what="another login",
    )
    await customer.says("oi")
    await bot.message("oi")

    async def connected() -> bool:
        return bot.transport.connection.can_send

    await until(connected)
    await bot.says(customer.lid, "olá")
    await customer.hears("olá")


async def test_a_session_that_is_taken_over_ends(bot: TransportBot, lab: Lab, owner: Owner) -> None:
    lab.close_stream(owner.linked[0], conflict="replaced")
    await ended(bot)
    page = readyz(bot.transport.connection)
    assert (page["state"], page["ready"], page["next_try"]) == ("replaced", False, None)
    assert "another program" in page["advice"]


async def test_a_server_that_throws_us_out_after_each_login_is_not_hammered(
    bot: TransportBot, lab: Lab
) -> None:
    with lab.cut_after_login() as revolver:
        await lab.drop()
        refused = (await bot.reaches(ConnectionState.RECONNECTING)).connection
        while "again and again" not in (refused.advice or ""):
            refused = (await bot.reaches(ConnectionState.RECONNECTING)).connection
        assert len(revolver.cut) <= SHORT.most_losses
    await bot.reaches(ConnectionState.CONNECTED)


async def test_a_login_that_is_told_of_after_its_connection_has_gone_is_none(
    bot: TransportBot, lab: Lab
) -> None:
    """The library asks first, after each login, and says "connected" when its questions have failed."""
    with lab.cut_after_login(times=1) as revolver:
        await lab.drop()
        await revolver.cut.expect()
        async with lab.outage():
            await until(lambda: is_reconnecting(bot))
            await bot.states.expect_none(
                lambda change: change.connection.state is ConnectionState.CONNECTED, during=2
            )
    await bot.reaches(ConnectionState.CONNECTED)


async def is_reconnecting(bot: TransportBot) -> bool:
    return bot.transport.connection.state is ConnectionState.RECONNECTING


async def test_suspended_it_says_that_messages_wait(bot: TransportBot) -> None:
    await bot.transport.suspend()
    page = readyz(bot.transport.connection)
    assert (page["state"], page["can_send"], page["can_receive"]) == ("suspended", False, False)
    assert "database" in page["advice"]
    await bot.transport.resume()
    await bot.reaches(ConnectionState.CONNECTED)


async def test_a_slow_network_is_only_slow(bot: TransportBot, lab: Lab, customer: Customer) -> None:
    with lab.slow_network(latency=0.2, bytes_per_second=20_000):
        await lab.drop()
        await bot.reaches(ConnectionState.CONNECTED)
        began = asyncio.get_running_loop().time()
        await bot.transport.send(Jid(customer.lid), Content(text="olá"))
        assert asyncio.get_running_loop().time() - began >= 0.4  # there and back
        await customer.hears("olá")
        await customer.says("oi")
        await bot.message("oi")


async def test_an_event_that_the_library_cannot_name_costs_a_moment(
    bot: TransportBot, owner: Owner, customer: Customer
) -> None:
    sent = await bot.says(customer.lid, "olá")
    await customer.hears("olá")
    customer.phone.send_receipt("server-error", (sent.external_id,), to=owner.account, addressed="lid")
    lost = (await bot.reaches(ConnectionState.RECONNECTING)).connection
    assert "library" in (lost.advice or "")
    await bot.reaches(ConnectionState.CONNECTED)
    await customer.says("oi")
    await bot.message("oi")


async def test_a_login_that_the_library_loses_without_a_word_is_noticed(
    bot: TransportBot, lab: Lab, owner: Owner, customer: Customer
) -> None:
    lab.refuse_connections(1)
    # The library comes back at once after a 515, by itself, and only once.
    lab.close_stream(owner.linked[0], code="515")
    lost = (await bot.reaches(ConnectionState.RECONNECTING)).connection
    assert lost.advice is not None
    await bot.reaches(ConnectionState.CONNECTED)
    await customer.says("oi")
    await bot.message("oi")


async def test_a_phone_of_which_nothing_is_heard_is_told_and_costs_nothing(
    empty_dsn: str, lab: Lab, owner: Owner, customer: Customer
) -> None:
    await make_session_schema(empty_dsn)
    quiet = dt.timedelta(
        seconds=6
    )  # on a busy machine less is over before a sign of the phone has been looked at
    bot = TransportBot(empty_dsn, lab, patience=replace(SHORT, quiet_phone=quiet))
    bot.start()
    await owner.scan(await bot.qr_codes.expect(what="a QR code"))
    # Where pairing takes longer than that, it is told without a moment of being connected before.
    offline = (await bot.reaches(ConnectionState.PHONE_OFFLINE)).connection
    assert readyz(offline)["ready"]
    assert "two weeks" in (offline.advice or "")
    assert now() - offline.since > quiet
    # It works as before, and a customer's phone is no sign of the owner's.
    await customer.says("oi")
    await bot.message("oi")
    await bot.says(customer.lid, "olá")
    await customer.hears("olá")
    assert bot.transport.connection.state is ConnectionState.PHONE_OFFLINE
    bot.states = Timeline()
    await owner.says("aqui estou", to=customer)
    await bot.reaches(ConnectionState.CONNECTED)
    await bot.stop()


@pytest.mark.long
async def test_unanswered_keepalives_alone_cost_no_connection(
    bot: TransportBot, lab: Lab, owner: Owner
) -> None:
    connection = owner.linked[0].connection
    with lab.ignore_questions("w:p"):
        doubtful = (await changes_to(bot, can_send=False)).connection
        assert doubtful.state is ConnectionState.CONNECTED
        await changes_to(bot, can_send=True)
    assert owner.linked[0].connection is connection


@pytest.mark.long
async def test_a_half_open_connection_is_found_by_its_keepalive(bot: TransportBot, lab: Lab) -> None:
    with lab.silence() as silence:
        await silence.swallowed.expect(lambda node: node.text("xmlns", "") == "w:p", what="a keepalive")
        await bot.reaches(ConnectionState.RECONNECTING)
    await bot.reaches(ConnectionState.CONNECTED)
