"""What must hold of every send at its very start, by what its daemon could know then; numbers name invariants."""

from __future__ import annotations

from collections.abc import Iterator

from storage.models import ExternalId, Jid
from storage.rows import addressed
from tests.integration.store_world import AFTER, TEAM
from tests.proof.players import GROUP, PEOPLE, same_chat
from tests.proof.shop import LEASE, Line, Seen, Send, Shop

EVERYBODY = -1


class Judge:
    """Looks on, and keeps what was wrong: what it raised at a send's start would be the daemon's to handle."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.wrong: list[str] = []
        self.silent: frozenset[Jid] = frozenset()
        self.moved_state = False  # since the last look at the store: who may speak is not certain
        self._rested = 0
        self._cut: list[tuple[int, int, int]] = []
        self._called_back: list[tuple[int, int]] = []
        self._all_silent: int | None = None
        shop.on_start = self._look

    # -- what it is told --

    def cut_off(self, who: int, begun: int) -> None:
        """By SQL a chat has been silenced, or begun anew: what was made before that began is not to be claimed now."""
        self._cut.append((begun, self._shop.next_order(), who))

    def called_back(self, who: int) -> None:
        """By SQL the bot is called back to a chat."""
        self._called_back.append((self._shop.next_order(), who))

    def all_silenced(self, silent: bool) -> None:
        """By SQL the bot is silent everywhere, or back."""
        self._all_silent = self._shop.next_order() if silent else None

    def rests(self, silent: frozenset[Jid], *, is_over: bool) -> None:
        """All has come to rest, and in these chats nothing may be said until somebody does something.

        Unless it `is_over`, what somebody has done waits for a connection.
        """
        self.silent, self.moved_state, self._all_silent = silent, not is_over, None
        self._rested = self._shop.next_order()

    # -- a send --

    def _look(self, send: Send) -> None:
        try:
            self._check_holder(send)
            if send.ids:  # else it is a command's answer, or a notice: not fenced by a human's line
                self._check(send)
        except AssertionError as wrong:
            self.wrong.append(str(wrong))

    def _check_holder(self, send: Send) -> None:
        # What was granted just before the account was lost may be heard of just after; not at leisure.
        lost = send.by.lost_at
        assert lost is None or (send.asked < lost and send.started_at - send.asked_at <= LEASE), (
            f"2: {send} starts although another daemon has had the account since {lost}"
        )

    def _check(self, send: Send) -> None:
        asked = [s for s in self._shop.seen if s.event.external_id in send.ids and not s.event.from_me]
        for line, since in self._heeded(send):
            assert send.made > since, f"3: a human had spoken ({line}) when {send} started"
            for question in asked:
                assert line.at < question.event.sent_at or self._came_after(question, line, since), (
                    f"3: {send} answers {question}, which was the human's to answer ({line})"
                )
            assert line.at + AFTER <= send.started_at or self._is_called_back(send.to, line), (
                f"3: {send} started {send.started_at - line.at} after a human spoke ({line})"
            )
        for begun, done, who in self._cut:
            is_cut_off = send.made < begun and done < send.asked and is_chat_of(who, send.to)
            assert not is_cut_off, f"3: {send} was made before the chat was changed by SQL ({begun})"
        is_silent = self._all_silent is not None and send.asked > self._all_silent
        assert not is_silent or self._was_globally_resumed(), f"3: all was silent when {send} started"
        assert self.moved_state or send.to not in self.silent, f"3: the store was silent for {send.to}"
        assert all(addressed(s.event) for s in asked), f"{send} answers what people said to each other"
        self._check_order(send)

    def _check_order(self, send: Send) -> None:
        before = [s for s in self._shop.sends if s is not send and s.to == send.to and s.left and s.ids]
        if not before or not (send.to == TEAM.jid or self._was_linked(send, send.to, before[-1].made)):
            return
        if {s.by for i in (*send.ids, *before[-1].ids) for s in self._seen(i)} == {send.by}:
            first, last = min(map(self._order_of, send.ids)), max(map(self._order_of, before[-1].ids))
            assert first > last, f"5: {send} comes after {before[-1]}"

    def _heeded(self, send: Send) -> Iterator[tuple[Line, int]]:
        """The owner's lines in the chat that the send's daemon had to heed, and since when.

        One that it has seen itself, from that moment; any other from when it was in the store, if the claim was asked
        for after that.
        """
        for line in self._shop.lines:
            is_here = send.to in line.chat.jids or (
                same_chat(send.to, line.chat.jid) and self._was_linked(send, send.to, line.order)
            )
            if is_here and line.by is send.by:
                yield line, line.order
            elif is_here and line.known is not None and line.known < send.asked:
                yield line, line.known

    @staticmethod
    def _came_after(question: Seen, line: Line, since: int) -> bool:
        if line.by is question.by and line.external_id is not None:
            return line.order < question.order
        # Where each was seen by another, or the line left no row but its time alone, it may be the same moment, and
        # nobody can say what came first.
        return since < question.order or line.at == question.event.sent_at

    def _is_called_back(self, to: Jid, line: Line) -> bool:
        """Whether the bot was called back to the chat after this line: by another process, or by the owner, whose
        command counts from when it was written, too. A line that left its time alone may be of the same moment.
        """
        if any(order > line.order and is_chat_of(who, to) for order, who in self._called_back):
            return True
        resumes = (
            seen
            for seen in self._shop.seen
            if seen.event.from_me and seen.event.text == "/resume" and same_chat(to, seen.event.chat.jid)
        )
        return any(
            seen.order > line.order
            or seen.event.sent_at > line.at
            or (seen.event.sent_at == line.at and (line.by is not seen.by or line.external_id is None))
            for seen in resumes
        )

    def _was_globally_resumed(self) -> bool:
        """Whether an admin's word may be on its way still."""
        return any(s.event.text == "/global resume" and s.order > self._rested for s in self._shop.seen)

    def _was_linked(self, send: Send, jid: Jid, order: int) -> bool:
        """Whether this daemon could know both addresses of somebody by then: it has seen them, or all had rested."""
        return any(
            s.order < order
            and (s.by is send.by or s.order < self._rested)
            and any(a.alt is not None and jid in a.jids for a in (s.event.chat, s.event.sender))
            for s in self._shop.seen
        )

    def linked(self) -> list[tuple[Jid, Jid]]:
        """The people of whom an event has shown both addresses."""
        shown = {a.jid for s in self._shop.seen for a in (s.event.chat, s.event.sender) if a.alt is not None}
        return [person for person in PEOPLE if shown.intersection(person)]

    # -- at rest --

    def overlapped(self) -> list[ExternalId]:
        """What was being sent when its daemon saw a human's line."""
        return [
            send.external_id
            for send in self._shop.sends
            if send.ids and send.ended is not None and send.external_id is not None
            and any(
                line.by is send.by and send.order < since < send.ended for line, since in self._heeded(send)
            )
        ]  # fmt: skip

    def assert_nothing_was_wrong(self) -> None:
        assert not self.wrong, self.wrong[0]

    def assert_nothing_is_answered_twice(self) -> None:
        answered = [i for send in self._shop.sends if send.left for i in send.ids]
        assert len(answered) == len(set(answered)), f"2: answered twice: {sorted(answered)}"

    def assert_each_pause_ended_once(self) -> None:
        twice = [chat for chat, times in self._shop.resumed.items() if times > 1]
        assert twice == [], f"2: resumed twice at the same moment: {twice}"

    def _seen(self, external_id: ExternalId) -> list[Seen]:
        return [s for s in self._shop.seen if s.event.external_id == external_id]

    def _order_of(self, external_id: ExternalId) -> int:
        return next((s.order for s in self._seen(external_id)), 0)


def is_chat_of(who: int, jid: Jid) -> bool:
    return who == EVERYBODY or (jid == TEAM.jid if who == GROUP else jid in PEOPLE[who])
