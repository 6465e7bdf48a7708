"""Importing exports: each message once and at its own time, whoever tells it, and nothing of it wakes the bot."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.importing.order import DateOrder
from storage.database import Database
from storage.models import Action, Author, ExternalId, MessageType, Status
from tests.integration.import_world import ImportWorld
from tests.integration.store_world import ANA, BEN, LONG_AGO, TEAM, World, said, typed
from tests.unit.export_forms import FORMS, Form

CHAT = """\
31/12/2025, 21:40 - Messages and calls are end-to-end encrypted. Tap to learn more.
31/12/2025, 21:41 - Ana: hi
how much is

a cake?
31/12/2025, 21:42 - Dona: 45
31/12/2025, 21:42 - Dona: 45
31/12/2025, 21:43 - Ana: <Media omitted>
01/01/2026, 09:00 - Ana: This message was deleted
01/01/2026, 09:01 - Ana: and two? <This message was edited>
"""
SAID = [
    ("customer", "hi\nhow much is\n\na cake?"),
    ("human", "45"),
    ("human", "45"),
    ("customer", None),
    ("customer", None),
    ("customer", "and two?"),
]
EVENING = datetime(2025, 12, 31, 21, 41, tzinfo=UTC)


@pytest.fixture
async def place(rollback_db: Database, tmp_path: Path) -> ImportWorld:
    return ImportWorld(world=await World.open(rollback_db), folder=tmp_path)


async def test_an_export_is_recorded_at_its_own_times_and_wakes_nothing(place: ImportWorld) -> None:
    report = await place.bring(CHAT)
    assert (report.tally.new, report.tally.known, report.notes, report.problems.told) == (6, 0, 1, [])
    rows = await place.rows()
    assert [(r["author"], r["text"]) for r in rows] == SAID
    assert rows[0]["sent_at"] == EVENING
    assert {(r["action_taken"], r["event_type"]) for r in rows} == {(Action.IMPORTED, "message")}
    assert [r["type"] for r in rows[3:]] == ["unknown", "revoke", "text"]
    assert rows[5]["metadata"] == {"edited": True}
    state = await place.world.db.fetchrow("SELECT * FROM sidestep.chat_state")
    assert state is not None
    assert (state["is_paused"], state["epoch"], state["last_human_at"], state["last_message_id"]) == (
        False,
        0,
        None,
        0,
    )
    assert await place.world.messages.undecided(place.world.account) == []
    assert await place.world.count("outbox") == 0
    assert len(place.person.began) == 2
    assert place.person.done == 2 * len(CHAT.encode())


async def test_the_same_file_twice_and_a_longer_one_later_record_nothing_twice(place: ImportWorld) -> None:
    await place.bring(CHAT)
    again = await place.bring(CHAT, "copy.txt")
    assert (again.tally.new, again.tally.known) == (0, 6)
    # It begins later and ends later, as an export of the last messages does.
    overlapping = CHAT[CHAT.index("31/12/2025, 21:42") :] + "01/01/2026, 09:01 - Dona: 80\n"
    longer = await place.bring(overlapping)
    assert (longer.tally.new, longer.tally.known) == (1, 5)
    assert await place.said() == [*SAID, ("human", "80")]


async def test_every_form_of_one_conversation_is_the_same_conversation(place: ImportWorld) -> None:
    await place.bring(CHAT)
    ios = (
        "[31.12.25, 21:40:02] Ana: \u200eMessages and calls are end-to-end encrypted.\n"
        "[31.12.25, 21:41:12] Ana: hi\nhow much is\n\na cake?\n"
        "[31.12.25, 21:42:01] Dona: 45\n[31.12.25, 21:42:59] Dona: 45\n"
        "\u200e[31.12.25, 21:43:00] Ana: \u200eimage omitted\n"
        "[01.01.26, 09:00:00] Ana: \u200eThis message was deleted.\n"
        "[01.01.26, 09:01:10] Ana: and two? \u200e<This message was edited>\n"
    )
    report = await place.bring(ios)
    assert (report.tally.new, report.tally.known) == (1, 6)  # new is the note alone, which iOS gives to Ana
    american = CHAT.replace("31/12/2025, 21:4", "12/31/25, 9:4").replace("01/01/2026, 09:0", "1/1/26, 9:0")
    for minute in range(4):
        american = american.replace(f"9:4{minute} -", f"9:4{minute}\u202fPM -")
    american = american.replace("9:00 -", "9:00\u202fAM -").replace("9:01 -", "9:01\u202fAM -")
    report = await place.bring(american)
    assert (report.tally.new, report.tally.known, report.order) == (0, 6, DateOrder.MDY)


async def test_what_is_recorded_live_is_not_recorded_again(place: ImportWorld) -> None:
    world = place.world
    await world.record(
        said("LIVE-1", "hi\nhow much is\n\na cake?", at=EVENING + timedelta(seconds=7)),
        said("LIVE-2", None, type=MessageType.IMAGE, at=EVENING + timedelta(minutes=2, seconds=3)),
        now=EVENING + timedelta(hours=5),
    )
    chat_id = await world.meet()
    await world.queue(chat_id, "45", now=EVENING + timedelta(seconds=58))
    due = await world.due(chat_id, now=EVENING + timedelta(minutes=1))
    await world.outbox.claim(due, EVENING + timedelta(minutes=1), LONG_AGO)
    await world.outbox.mark_sent(due, ExternalId("3EB0A"), EVENING + timedelta(minutes=1), overlapped=False)
    report = await place.bring(CHAT)
    # Of the two that read "45" the bot said one.
    assert (report.tally.new, report.tally.known) == (3, 3)
    assert [row["author"] for row in await place.rows() if row["text"] == "45"] == [Author.HUMAN]
    assert await world.count("messages") == 6
    assert (await place.bring(CHAT)).tally.new == 0


async def test_what_was_edited_or_deleted_since_the_last_export_changes_what_is_recorded(
    place: ImportWorld,
) -> None:
    before = (
        "31/12/2025, 21:41 - Ana: one cake\n31/12/2025, 21:42 - Ana: sorry\n31/12/2025, 21:43 - Dona: yes\n"
    )
    after = before.replace("one cake", "two cakes <This message was edited>").replace(
        "sorry", "This message was deleted"
    )
    await place.bring(before)
    report = await place.bring(after)
    assert (report.tally.new, report.tally.changed, report.tally.known) == (0, 2, 1)
    told = {r["type"]: r for r in await place.rows() if r["type"] != "text"}
    assert set(told) == {"edit", "revoke"}
    shown = [(r["text"], r["deleted_at"] is not None) for r in await place.rows() if r["type"] == "text"]
    assert shown == [("two cakes", False), ("sorry", True), ("yes", False)]
    again = await place.bring(after)
    assert (again.tally.new, again.tally.changed, again.tally.known) == (0, 0, 3)
    assert await place.world.count("messages") == 5


async def test_a_dry_run_tells_the_same_and_records_nothing(place: ImportWorld) -> None:
    report = await place.bring(CHAT, dry=True)
    assert (report.tally.new, report.tally.known) == (6, 0)
    assert await place.is_untouched()
    await place.bring(CHAT)
    report = await place.bring(CHAT + "01/01/2026, 10:00 - Ana: thanks\n", dry=True)
    assert (report.tally.new, report.tally.known) == (1, 6)


async def test_times_are_those_of_the_phones_zone(place: ImportWorld) -> None:
    await place.bring("31/12/2025, 21:41 - Ana: hi\n", zone="America/Sao_Paulo")
    [row] = await place.rows()
    assert row["sent_at"] == datetime(2026, 1, 1, 0, 41, tzinfo=UTC)


async def test_the_months_of_the_past_are_made(place: ImportWorld) -> None:
    await place.bring("13/02/2014, 10:00 - Ana: long ago\n13/02/2023, 10:00 - Ana: hi\n")
    assert [r["text"] for r in await place.rows()] == ["long ago", "hi"]
    for month in ("201402", "202302"):
        assert (
            await place.world.db.fetchval("SELECT to_regclass($1)", f"sidestep.messages_{month}") is not None
        )


class TestWho:
    async def test_the_chat_is_known_by_its_files_name(self, place: ImportWorld) -> None:
        await place.world.record(said("L1", by=BEN, push_name="Ben Silva"))
        chat = "13/01/2026, 10:00 - Ben Silva: hi\n13/01/2026, 10:01 - Dona Padaria: hello\n"
        report = await place.bring(chat, "Conversa do WhatsApp com Ben Silva.txt", chat=None, me=())
        assert (report.refused, report.tally.new, place.person.asked) == (None, 2, [])
        assert [r["author"] for r in await place.rows() if r["text"] != "hello" or r["author"] == "human"] == [
            "customer", "human",
        ]  # fmt: skip
        assert await place.world.count("chat_state") == 1

    async def test_a_number_is_known_in_any_format(self, place: ImportWorld) -> None:
        chat = (
            "13/01/2026, 10:00 - +55 (11) 98888\u20110001: hi\n13/01/2026, 10:01 - +55 11 99999-0000: hello\n"
        )
        report = await place.bring(chat, chat=None, me=())
        assert (report.refused, report.tally.new) == (None, 2)
        assert await place.said() == [("customer", "hi"), ("human", "hello")]
        assert await place.world.db.fetchval("SELECT jid FROM sidestep.chats") == ANA.jid

    async def test_whom_it_cannot_tell_it_asks(self, place: ImportWorld) -> None:
        chat = "13/01/2026, 10:00 - A: hi\n13/01/2026, 10:01 - B: hello\n"
        place.person.choices, place.person.words = ["B"], ["+5511988880001"]
        report = await place.bring(chat, chat=None, me=())
        assert (report.refused, len(place.person.asked)) == (None, 2)
        assert await place.said() == [("customer", "hi"), ("human", "hello")]

    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ({"me": ()}, "--me"),
            ({"me": ("Carla",)}, "nobody here is called Carla"),
            ({"chat": None, "me": ("B",)}, "Say the number of A with --chat NUMBER"),
            ({"chat": "somebody", "me": ("B",)}, "no phone number"),
        ],
    )
    async def test_where_nobody_answers_nothing_is_recorded(
        self, place: ImportWorld, how: dict[str, Any], words: str
    ) -> None:
        chat = "13/01/2026, 10:00 - A: hi\n13/01/2026, 10:01 - B: hello\n"
        report = await place.bring(chat, **how)
        assert words in str(report.refused)
        assert await place.is_untouched()

    async def test_a_group_has_its_senders(self, place: ImportWorld) -> None:
        await place.world.record(
            said("L1", "who comes?", by=ANA, group=TEAM, push_name="Ana Live", at=EVENING),
            now=EVENING,
        )
        chat = (
            '31/12/2025, 21:39 - Ben created group "Team: friends"\n'
            "31/12/2025, 21:41 - Ana: who comes?\n31/12/2025, 21:41 - +55 11 98888-0002: me\n"
            "31/12/2025, 21:41 - Carla: me\n31/12/2025, 21:42 - Dona: fine\n"
        )
        for new in (3, 0):
            report = await place.bring(chat, chat=str(TEAM.jid))
            assert (report.refused, report.tally.new, report.notes) == (None, new, 1)
        assert await place.world.count("messages") == 4
        assert await place.world.count("chat_state") == 1
        senders = {
            (r["text"], r["jid"].rpartition("@")[2])
            for r in await place.world.db.fetch(
                "SELECT m.text, c.jid FROM sidestep.messages m JOIN sidestep.contacts c ON c.contact_id = m.sender_id"
            )
        }
        assert senders == {("who comes?", "s.whatsapp.net"), ("me", "s.whatsapp.net"), ("me", "name")}

    async def test_a_group_that_is_not_known_gets_one_chat_of_its_own(self, place: ImportWorld) -> None:
        chat = "13/01/2026, 10:00 - A: hi\n13/01/2026, 10:01 - B: hello\n13/01/2026, 10:01 - Dona: you two\n"
        for new in (3, 0):
            report = await place.bring(chat, "WhatsApp Chat with Team.txt", chat=None)
            assert (report.refused, report.tally.new) == (None, new)
        row = await place.world.db.fetchrow("SELECT is_group, name FROM sidestep.chats")
        assert row is not None
        assert tuple(row) == (True, "Team")

    async def test_two_people_are_no_private_chat(self, place: ImportWorld) -> None:
        chat = "13/01/2026, 10:00 - A: hi\n13/01/2026, 10:01 - B: hello\n13/01/2026, 10:01 - Dona: you two\n"
        report = await place.bring(chat)
        assert "2 people besides you" in str(report.refused)
        assert await place.is_untouched()


class TestDates:
    async def test_an_order_that_cannot_be_told_is_asked_for(self, place: ImportWorld) -> None:
        chat = "02/03/2026, 10:00 - Ana: hi\n"
        assert "--date-order dmy or mdy" in str((await place.bring(chat)).refused)
        place.person.choices = ["mdy"]
        assert (await place.bring(chat)).order is DateOrder.MDY
        assert (await place.rows())[0]["sent_at"] == datetime(2026, 2, 3, 10, tzinfo=UTC)
        assert (await place.bring(chat, order=DateOrder.DMY)).order is DateOrder.DMY

    async def test_dates_that_do_not_exist_or_are_to_come_are_told_line_by_line(
        self, place: ImportWorld
    ) -> None:
        chat = (
            "13/01/2026, 10:00 - Ana: hi\n31/02/2026, 10:00 - Ana: never\n13/01/2096, 10:00 - Ana: one day\n"
            "13/01/1996, 10:00 - Ana: no phones yet\n"
        )
        report = await place.bring("a preface\n" + chat)
        assert not report.is_fine
        assert [line.partition(":")[0] for line in report.problems.lines()] == [
            "line 1",
            "line 3",
            "line 4",
            "line 5",
        ]
        assert await place.said() == [("customer", "hi")]


async def test_what_was_sent_and_has_no_known_fate_is_settled_and_not_repeated(place: ImportWorld) -> None:
    world = place.world
    chat_id = await world.meet()
    lost = await world.queue(chat_id, "45", now=EVENING)
    due = await world.due(chat_id, now=EVENING)
    await world.outbox.claim(due, EVENING, LONG_AGO)
    await world.outbox.settle(due, Status.UNKNOWN, "no answer", EVENING)
    await place.bring("31/12/2025, 21:41 - Dona: 45\n")
    assert await world.count("messages") == 1
    assert await world.status(lost) in (Status.UNKNOWN, Status.SENT)


async def test_a_human_who_has_typed_it_live_is_not_told_twice(place: ImportWorld) -> None:
    await place.world.record(typed("LIVE", "45", at=EVENING), now=EVENING)
    report = await place.bring("31/12/2025, 21:41 - Dona: 45\n31/12/2025, 21:41 - Dona: 45\n")
    assert (report.tally.new, report.tally.known) == (1, 1)


async def test_what_the_phone_tells_after_an_import_is_the_same_and_gets_its_id(place: ImportWorld) -> None:
    await place.bring(CHAT)
    world, late = place.world, timedelta(minutes=1)
    told = (
        said("3EB01", "hi\nhow much is\n\na cake?", at=EVENING + timedelta(seconds=7)),
        typed("3EB02", "45", at=EVENING + late),
        typed("3EB03", "45", at=EVENING + late + timedelta(seconds=50)),
        said("3EB04", None, type=MessageType.IMAGE, at=EVENING + 2 * late, raw="{}"),
        said("3EB05", "and this only the phone knows", at=EVENING + 2 * late),
    )
    for new in (1, 0):
        assert await world.record_past(*told) == new
    rows = {r["external_id"]: r for r in await place.rows() if r["external_id"].startswith("3EB0")}
    assert sorted(rows) == [f"3EB0{n}" for n in range(1, 6)]
    assert rows["3EB04"]["type"] == "image"
    assert await world.count("messages") == 7
    assert await world.count("message_payloads") == 1
    # An edit finds them, and so does a later file, which has the last words, and the first one.
    words = "hi!\nhow much is\n\na cake?"
    edit = said("E1", words, type=MessageType.EDIT, reply_to="3EB01", at=EVENING + timedelta(seconds=9))
    await world.record_past(edit)
    assert ("customer", words) in await place.said()
    for content in (CHAT.replace("hi\n", "hi!\n"), CHAT):
        report = await place.bring(content)
        assert (report.tally.new, report.tally.known) == (0, 6)
    assert await world.count("messages") == 8


_SPOKEN = st.tuples(
    st.integers(min_value=0, max_value=6),  # seconds of silence before it, times ten
    st.sampled_from(["Ana", "Dona"]),
    st.sampled_from(["ok", "ok?", "how much\nis it", "🍰", "12.50", "<Media omitted>"]),
)
_EXPORTS = st.tuples(st.sampled_from(FORMS), st.floats(0, 1), st.floats(0, 1))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(spoken=st.lists(_SPOKEN, min_size=1, max_size=25), exports=st.lists(_EXPORTS, min_size=1, max_size=4))
async def test_whatever_parts_are_exported_in_whatever_form_each_message_is_recorded_once(
    place: ImportWorld, spoken: list[tuple[int, str, str]], exports: list[tuple[Form, float, float]]
) -> None:
    # A customer of its own for each example.
    number = f"+55119{88880000 + await place.world.count('chats')}"
    at, told = datetime(2025, 12, 31, 23, 58), []  # noqa: DTZ001 - the phone's clock
    for silence, name, text in spoken:
        at += timedelta(seconds=10 * silence)
        told.append((at, name, text))
    covered: set[int] = set()
    for form, one, other in exports:
        first, last = sorted((int(one * len(told)), int(other * len(told))))
        # An export begins and ends anywhere but within a minute: what is left of one is told by its number of likes.
        while 0 < first < len(told) and _minute(told[first]) == _minute(told[first - 1]):
            first -= 1
        part = told[first : last + 1]
        report = await place.bring("".join(form.write(*each) for each in part), chat=number, order=form.order)
        if part:
            assert report.refused is None
            covered |= set(range(first, first + len(part)))
            assert report.tally.new + report.tally.known == len(part)
    found = await place.world.db.fetch(
        "SELECT m.author, m.text FROM sidestep.messages m JOIN sidestep.chats c USING (tenant_id, chat_id)"
        " WHERE c.jid = $1",
        f"{number.removeprefix('+')}@s.whatsapp.net",
    )
    authors = {"Ana": "customer", "Dona": "human"}
    expected = [(authors[told[n][1]], None if "Media" in told[n][2] else told[n][2]) for n in covered]
    assert Counter(map(tuple, found)) == Counter(expected)


def _minute(spoken: tuple[datetime, str, str]) -> datetime:
    return spoken[0].replace(second=0)
