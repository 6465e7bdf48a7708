"""What is proposed for a chat command: to carry it out, to refuse it, or an excuse; nothing takes effect here."""

from __future__ import annotations

from dataclasses import replace

from bot.answers import Proposal
from bot.desk.stores import Stores
from bot.desk.turns import Turns
from bot.outcomes import Tally, decided_by
from bot.policy import Policy
from bot.roles import Roles
from flows.commands.paging import shortened
from flows.commands.target import called
from flows.contract import Decided, Notice, Turn
from flows.registry import Recognised, recognise
from storage.models import (
    PHONE_SERVER,
    Action,
    Author,
    ChatSummary,
    Decision,
    Message,
    Role,
    Topic,
)

_EXCUSE = (
    "I could not carry out “{command}”{giver}: something went wrong, and nothing has changed. Try it once more; my log "
    "has the reason."
)
_QUOTED = 60
_GROUP_COMMANDS = ("help",)


class Commands:
    """One account's. They bypass the debounce and most gates."""

    def __init__(self, turns: Turns, stores: Stores, roles: Roles, policy: Policy) -> None:
        self._turns = turns
        self._stores = stores
        self._roles = roles
        self._policy = policy

    async def propose(self, message: Message) -> Proposal:
        turn = await self._turns.read([message])
        turn = replace(turn, meant=await self._meant(turn))
        flow = recognise(
            message.text or "", turn.role, own_chat=turn.own_chat, is_reply=message.reply_to is not None
        )
        action = self._refusal(turn, flow)
        takes_back = self._to_take_back(message, own_chat=turn.own_chat)
        if flow is None or action is not None:
            decision = Decision(message_id=message.id, action=action or Action.IGNORED_UNSUPPORTED)
            return Proposal(messages=(message,), epoch=None, decisions=(decision,), takes_back=takes_back)
        tally = await self._turns.run(flow, turn)
        if tally.is_only_words and turn.now - message.sent_at > self._policy.max_age:
            # A wish, such as to be left alone, is obeyed however old it is; a question is not answered.
            tally = Tally(decided=Decided(action=Action.IGNORED_TOO_OLD))
        return Proposal(
            messages=(message,),
            epoch=None,
            decisions=(decided_by(tally, flow, message),),
            answered=(message,),
            replies=tuple(tally.replies),
            notices=await self._turns.addressed(tally.notices, message),
            tells=tuple(tally.tells),
            effects=tuple(tally.effects),
            takes_back=takes_back,
        )

    async def excuse(self, message: Message) -> Proposal:
        """A command has failed as nobody has foreseen: tell whoever gave it; of a customer's, the owner."""
        role = self._roles.of(message.sender_jids, from_me=message.author is Author.HUMAN)
        user, _, server = message.chat_jid.partition("@")
        phone = user if server == PHONE_SERVER else None
        giver = (
            f" of {called(None, phone, message.is_group, message.chat_id)}" if role is Role.CUSTOMER else ""
        )
        notice = Notice(
            text=_EXCUSE.format(command=shortened(message.text or "", _QUOTED), giver=giver),
            role=Role.ADMIN if role is Role.ADMIN else Role.OWNER,
            topic=Topic(about=message.chat_id),
        )
        return Proposal(
            messages=(message,),
            epoch=None,
            decisions=(Decision(message_id=message.id, action=Action.FAILED, detail="command"),),
            answered=(message,),
            notices=await self._turns.addressed([notice], message),
            takes_back=self._to_take_back(message, own_chat=self._roles.is_own((message.chat_jid,))),
        )

    async def _meant(self, turn: Turn) -> ChatSummary | None:
        """The chat of the notice that a command in one's own chat replies to."""
        if not turn.own_chat or (reference := turn.messages[-1].reply_to) is None:
            return None
        found = await turn.reader.told(turn.chat.chat_id, reference)
        if found is None or (about := found[0].about) in (None, turn.chat.chat_id):
            return None
        return await self._stores.sessions.chat(about)  # None: erased since

    def _to_take_back(self, message: Message, *, own_chat: bool) -> Message | None:
        """A command on one of the owner's devices where a customer reads it: only that can be revoked."""
        is_seen = message.author is Author.HUMAN and not own_chat
        return message if is_seen and self._policy.takes_commands_back else None

    def _refusal(self, turn: Turn, flow: Recognised | None) -> Action | None:
        if turn.role is Role.CUSTOMER and turn.chat.is_group:
            # One member is not the group: nobody silences it, or calls a person into it, for all.
            is_allowed = self._policy.groups and flow is not None and flow.name in _GROUP_COMMANDS
            return None if is_allowed else Action.IGNORED_GROUP
        if turn.role is Role.CUSTOMER and turn.session.is_excluded:
            return Action.IGNORED_EXCLUDED
        return None
