"""Classifying at sight: what a human says takes the chat over, what a human's thumb does elsewhere does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bot.classify import classify
from bot.policy import Policy
from bot.roles import Roles
from storage.models import Action, Address, ExternalId, InboundMessage, Jid, MessageType, Tenant, TenantId

SHOP = Tenant(tenant_id=TenantId(1), instance_name="shop", owner="+5511999990000")
LINE = InboundMessage(
    external_id=ExternalId("H1"),
    chat=Address(jid=Jid("5511988880001@s.whatsapp.net")),
    sender=Address(jid=Jid("5511999990000@s.whatsapp.net")),
    sent_at=datetime(2026, 3, 10, 14, 0, tzinfo=UTC),
    from_me=True,
)


def from_the_owner(**changes: Any) -> tuple[bool, Action | None]:
    """Whether it takes over, and what is decided at sight."""
    arrival = classify(replace(LINE, **changes), Roles(SHOP), Policy())
    return arrival.takes_over, arrival.action


@pytest.mark.parametrize(
    "kind",
    [
        MessageType.TEXT,
        MessageType.AUDIO,
        MessageType.STICKER,
        MessageType.POLL,
        MessageType.UNDECRYPTABLE,
        MessageType.UNKNOWN,
    ],
)
def test_what_the_owner_says_takes_over(kind: MessageType) -> None:
    assert from_the_owner(type=kind) == (True, None)
    assert from_the_owner(type=kind, reply_to=ExternalId("M1")) == (True, None)


@pytest.mark.parametrize(
    "kind", [MessageType.REACTION, MessageType.EDIT, MessageType.REVOKE, MessageType.SYSTEM]
)
def test_what_is_no_speech_does_not(kind: MessageType) -> None:
    assert from_the_owner(type=kind) == (False, Action.HUMAN_SPOKE)


@pytest.mark.parametrize("chosen", [["a", "b"], [], None])
def test_a_vote_in_a_poll_is_no_speech_whether_it_can_be_read_or_not(chosen: list[str] | None) -> None:
    vote = {"type": MessageType.POLL, "reply_to": ExternalId("M1"), "metadata": {"voted": chosen}}
    assert from_the_owner(**vote) == (False, Action.HUMAN_SPOKE)
