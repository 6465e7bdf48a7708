"""The reckoning: what people have said and phones have shown, against what the store says of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import asyncpg

from bot.lab.heard import Heard
from bot.lab.lab import Lab
from bot.lab.people import Customer
from tests.acceptance.invariants import ANSWERED_TWICE, REPLIED_WITHOUT_REPLY, UNDECIDED, UNSETTLED
from tests.conftest import connected
from tests.lab.soak import races
from tests.lab.soak.ledger import Chat, Ledger, Said
from tests.lab.soak.shop import RESUME_AFTER, Shop

MESSAGES = """
SELECT m.tenant_id, m.chat_id, m.id, m.author, m.external_id, m.type,
       coalesce(live.action_taken, d.action_taken) AS action_taken, d.action_taken = 'imported' AS told_before
  FROM sidestep.messages m
  LEFT JOIN sidestep.decisions d
    ON (d.tenant_id, d.chat_id, d.message_id) = (m.tenant_id, m.chat_id, m.id) AND d.event_type = 'message'
  LEFT JOIN sidestep.decisions live
    ON (live.tenant_id, live.chat_id, live.message_id) = (m.tenant_id, m.chat_id, m.id) AND live.event_type = 'live'
 WHERE m.author <> 'bot' ORDER BY m.id
"""
SENDS = """
SELECT tenant_id, chat_id, id, o.status, o.external_id, o.overlapped, m.type = 'revoke' AS takes_back,
       o.epoch IS NOT NULL AND NOT o.is_command_answer AS fenced
  FROM sidestep.outbox o JOIN sidestep.messages m USING (tenant_id, chat_id, id) ORDER BY id
"""
RECORDED_TWICE = """
SELECT external_id, author, count(*) FROM sidestep.messages WHERE external_id IS NOT NULL
 GROUP BY tenant_id, chat_id, external_id, author HAVING count(*) > 1
"""
QUARANTINED = "SELECT external_id, error FROM sidestep.quarantine"
BROKEN = "SELECT message_id, detail FROM sidestep.decisions WHERE action_taken IN ('failed', 'quarantined')"
AT_REST = {
    "not decided exactly once": UNDECIDED,
    "answered twice": ANSWERED_TWICE,
    "an answer that was decided does not exist": REPLIED_WITHOUT_REPLY,
    "still queued or being sent": UNSETTLED,
    "recorded twice": RECORDED_TWICE,
    "quarantined": QUARANTINED,
    "could not be handled": BROKEN,
}
_RACED = "not shown: the library's session race"
_NOT_ACKNOWLEDGING = ("read", "read-self", "played", "retry")
# How long before a kill the library may have acknowledged, or opened, what the daemon had not yet recorded.
_KILL_GAP_SECONDS = 1.0
# From the library's acknowledgement of the owner's message to its mark in the daemon, on a busy machine.
_SEEN_SECONDS = 1.0


@dataclass(slots=True)
class Report:
    """`violations` must be empty, `details` are all that they are about; `figures` are told, whatever they are."""

    violations: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def blame(self, what: str, whom: Iterable[object]) -> None:
        found = list(whom)
        if found:
            self.violations.append(f"{what}: {len(found)}, such as {found[:3]}")
            self.details.append(f"{what}:\n" + "".join(f"  {each}\n" for each in found))


class Audit:
    def __init__(self, lab: Lab, shop: Shop, customers: list[Customer], ledger: Ledger) -> None:
        self._shop, self._customers, self._ledger = shop, customers, ledger
        self._owners = {owner.number: owner for owner in shop.owners.values()}
        self._acknowledged, self._sent_at = _from_daemon(lab, shop)
        self._from_desks = {
            stanza.node.text("id")
            for stanza in lab.stanzas
            if stanza.node.tag == "message" and stanza.device not in shop.devices.values()
        }
        repeats = {
            (person.number, repeat.id): repeat.opened_at
            for person in (*customers, *self._owners.values())
            for repeat in person.phone.repeats
        }
        self._races = races.Races(repeats, ledger, self._acknowledged)
        self._stanzas = [stanza for stanza in lab.stanzas if stanza.device in shop.devices.values()]
        self._messages: dict[str, asyncpg.Record] = {}
        self._sends: list[asyncpg.Record] = []
        self._chats: dict[tuple[int, int], Chat] = {}
        self.report = Report()

    async def run(self) -> Report:
        async with connected(self._shop.dsn) as connection:
            for what, claim in AT_REST.items():
                self.report.blame(what, [tuple(row) for row in await connection.fetch(claim)])
            rows = await connection.fetch(MESSAGES)
            self._sends = await connection.fetch(SENDS)
        self._messages = {row["external_id"]: row for row in rows if row["external_id"] in self._ledger.said}
        for row in self._messages.values():
            self._chats[row["tenant_id"], row["chat_id"]] = self._ledger.said[row["external_id"]].chat
        self._check_recorded()
        self._check_order()
        self._check_phones()
        self._check_takeovers()
        self.report.figures["decisions"] = dict(
            Counter(row["action_taken"] for row in self._messages.values())
        )
        self.report.figures["sends"] = dict(Counter(row["status"] for row in self._sends))
        self.report.figures["overlapped"] = sum(row["overlapped"] for row in self._sends)
        self.report.blame("the log has errors", self._shop.problems)
        return self.report

    def _check_recorded(self) -> None:
        missing = [said for said in self._ledger.said.values() if self._is_missing(said)]
        acknowledged = [said for said in missing if self._was_acknowledged_and_killed(said)]
        opened = [said for said in missing if self._was_opened_and_killed(said)]
        self.report.figures["said"] = len(self._ledger.said)
        self.report.figures["recorded"] = len(self._ledger.said) - len(missing)
        self.report.figures["lost to kill -9: acknowledged before"] = len(acknowledged)
        self.report.figures["lost to kill -9: opened before"] = len(opened)
        lost = {said.id for said in (*acknowledged, *opened)}
        self.report.blame("never recorded", [self._story_of(said) for said in missing if said.id not in lost])

    def _is_missing(self, said: Said) -> bool:
        """Not there, or only its place: what could not be opened was asked for again, and taken by a kill."""
        row = self._messages.get(said.id)
        return row is None or (row["type"] == "undecryptable" and row["action_taken"] == "imported")

    def _story_of(self, said: Said) -> str:
        """What the daemon's devices have told WhatsApp of it, in seconds after it was said."""
        told = ", ".join(
            f"{node.tag} {node.text('type', '')} after {stanza.at - said.at:.2f} s"
            for stanza in self._stanzas
            if (node := stanza.node).text("id", "") == said.id
        )
        return f"{said.kind} {said.id} at {said.at:.2f}: {told or 'nothing'}"

    def _was_acknowledged_and_killed(self, said: Said) -> bool:
        """Also where the lab has read of it only after the kill: no other daemon was there yet."""
        at = self._acknowledged.get(said.id)
        return at is not None and any(
            kill - _KILL_GAP_SECONDS < at < self._next_start(kill) and said.at <= kill
            for kill in self._shop.kills
        )

    def _next_start(self, kill: float) -> float:
        return min((life.began for life in self._shop.lives if life.began > kill), default=kill)

    def _was_opened_and_killed(self, said: Said) -> bool:
        """It comes again, but what was opened once neonize cannot open twice: it acknowledges it, and says nothing."""
        at = self._acknowledged.get(said.id)
        return at is not None and any(
            said.at <= kill < at and kill - said.at < _KILL_GAP_SECONDS for kill in self._shop.kills
        )

    def _check_order(self) -> None:
        """By chat: people's messages are recorded in the order in which they were written.

        What came with the past first has its place by the platform's clock, which knows only seconds. What could not be
        opened comes again when the phone is asked for it: one by one, whatever was written after it.
        """
        asked_again = {
            stanza.node.text("id")
            for stanza in self._stanzas
            if stanza.node.tag == "receipt" and stanza.node.text("type", "") == "retry"
        }
        written: dict[Chat, list[Said]] = defaultdict(list)
        for said in self._ledger.said.values():
            row = self._messages.get(said.id)
            keeps_order = said.in_order and said.id not in asked_again
            if said.author == "customer" and keeps_order and row and not row["told_before"]:
                written[said.chat].append(said)
        for chat, all_said in written.items():
            ids = [self._messages[said.id]["id"] for said in all_said]
            self.report.blame(f"recorded out of order in {chat}", _disorder(ids))

    def _check_phones(self) -> None:
        """What the store calls sent is on the phone, in order; and nothing else is."""
        sent = {row["external_id"]: row for row in self._sends if row["external_id"]}
        heard: dict[Chat, set[str]] = defaultdict(set)
        for chat, messages in self._heard():
            # What takes a command back goes before an answer that is just being typed.
            known = [sent[m.id] for m in messages if m.id in sent and not sent[m.id]["takes_back"]]
            self.report.blame(f"sent out of order in {chat}", _disorder([row["id"] for row in known]))
            heard[chat] |= {message.id for message in messages}
        strangers = Counter({chat: len(its_ids - sent.keys()) for chat, its_ids in heard.items()})
        # A send of which nothing is known may have arrived, or not.
        unknown = (self._chat_of(row) for row in self._sends if row["status"] == "unknown")
        strangers.subtract(where for where in unknown if where is not None)
        self.report.blame("on a phone, not in the store", [(c, n) for c, n in strangers.items() if n > 0])
        self._check_shown()
        read = {row["external_id"] for row in self._sends if row["status"] == "read"}
        self.report.figures["heard on phones"] = len(set[str]().union(*heard.values()))
        self.report.figures["read receipts that changed nothing"] = len(
            (self._ledger.reads & sent.keys()) - read
        )

    def _check_shown(self) -> None:
        """What the store calls sent is on the phone that it was for; its copy on the owner's phone is only counted."""
        shown = {
            person.number: {message.id for message in person.heard}
            for person in (*self._customers, *self._owners.values())
        }
        members = set[str]().union(*(shown[customer.number] for customer in self._customers))
        lost, copies = [], []
        for row in self._sends:
            chat, message_id = self._chat_of(row), row["external_id"]
            if chat is None or row["status"] not in ("sent", "delivered", "read"):
                continue
            if message_id not in shown.get(chat.customer, members):
                lost.append((row["status"], message_id, chat))
            if message_id not in shown[chat.business]:
                copies.append((row["status"], message_id, chat))
        raced = [each for each in lost if self._is_raced(*each)]
        self.report.figures[_RACED] = len(raced)
        most = max(races.A_FEW, races.MOST_SHARE * len(self._sends))
        self.report.blame(f"{_RACED}, more than it explains", raced if len(raced) > most else [])
        self.report.blame(
            "sent, says the store, but on no phone", [each for each in lost if each not in raced]
        )
        self.report.figures["not copied to the owner's phone"] = len(copies)

    def _is_raced(self, status: str, message_id: str, chat: Chat) -> bool:
        return status == "sent" and self._races.has_taken(message_id, chat)

    def _heard(self) -> Iterator[tuple[Chat, list[Heard]]]:
        """By phone and chat, what bots wrote: to customers, in groups, and to owners in the chat with themselves."""
        by_people = self._ledger.said.keys() | self._from_desks
        for person in (*self._customers, *self._owners.values()):
            chats: dict[Chat, list[Heard]] = defaultdict(list)
            for message in person.heard:
                if message.sender in self._owners and message.id not in by_people:
                    oneself = message.chat in (message.sender, person.number)
                    where = person.number if oneself else message.chat
                    chats[Chat(business=message.sender, customer=where)].append(message)
            yield from chats.items()

    def _check_takeovers(self) -> None:
        """From where the daemon has the owner's message to where it may speak again, it starts no answer."""
        sends = defaultdict(list)
        for row in self._sends:
            if (chat := self._chat_of(row)) and row["fenced"] and row["external_id"] in self._sent_at:
                sends[chat].append((self._sent_at[row["external_id"]], row))
        over, checked = [], 0
        for said in self._ledger.of("human", "takeover"):
            recorded = self._messages.get(said.id)
            # What came only with the past, as a kill had taken it before, silences nobody.
            if (
                recorded is None
                or recorded["action_taken"] == "imported"
                or said.id not in self._acknowledged
            ):
                continue
            checked += 1
            begins, ends = self._acknowledged[said.id] + _SEEN_SECONDS, self._silence_ends(said)
            over += [
                (send["external_id"], round(at - said.at, 2), said.id, said.chat)
                for at, send in sends[said.chat]
                if begins < at < ends and not send["overlapped"]
            ]
        self.report.figures["takeovers checked"] = checked
        self.report.blame("sent after a takeover (id, seconds after it, the takeover)", over)

    def _silence_ends(self, takeover: Said) -> float:
        """The clock brings the bot back by the time of the owner's message, a /resume at once."""
        resumes = (
            said.at
            for said in self._ledger.of("human", "command")
            if said.chat == takeover.chat and said.at > takeover.at
        )
        # The platform's times are whole seconds.
        return min([*resumes, takeover.at + RESUME_AFTER - 1.5])

    def _chat_of(self, row: asyncpg.Record) -> Chat | None:
        return self._chats.get((row["tenant_id"], row["chat_id"]))


def _from_daemon(lab: Lab, shop: Shop) -> tuple[dict[str, float], dict[str, float]]:
    """When it has acknowledged people's messages, and when its own reached the server; the first time."""
    acknowledged: dict[str, float] = {}
    sent: dict[str, float] = {}
    for stanza in lab.stanzas:
        if stanza.device not in shop.devices.values():
            continue
        node = stanza.node
        if node.tag == "message":
            sent.setdefault(node.text("id"), stanza.at)
        elif (node.tag == "receipt" and node.text("type", "") not in _NOT_ACKNOWLEDGING) or (
            node.tag == "ack" and node.text("class", "") == "message"
        ):
            acknowledged.setdefault(node.text("id"), stanza.at)
    return acknowledged, sent


def _disorder(ids: list[int]) -> list[tuple[int, int]]:
    return [(one, other) for one, other in pairwise(ids) if other < one]
