"""The states of a chat and what may change them: one table, which the database's `sidestep.after` repeats; pure.

Four machines stand side by side, and each begins as ACTIVE: the pause of a chat, its exclusion, its customer's
opt-out, and the tenant's global pause. The bot speaks only where all four are ACTIVE. docs/takeover.md draws them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from storage.models import PauseReason, Session


class State(StrEnum):
    """Where one of the machines stands."""

    ACTIVE = "active"
    HUMAN_TAKEOVER = "human_takeover"
    MANUAL_PAUSE = "manual_pause"
    AI_HANDOFF = "ai_handoff"
    CUSTOMER_REQUEST = "customer_request"
    BOT_LOOP = "bot_loop"
    EXCLUDED = "excluded"
    OPTED_OUT = "opted_out"
    GLOBAL_PAUSE = "global_pause"


class Cause(StrEnum):
    """What may change a state.

    HUMAN_SPOKE: a person wrote to the customer, not so long ago that the bot would be back by now, and not before
    somebody called it back. FIND_LOOP: the other side answers like a bot. CLOCK: the owner's silence, or the time of a
    pause, is over.
    """

    HUMAN_SPOKE = "human_spoke"
    PAUSE = "pause"
    HAND_OFF = "hand_off"
    ASK_FOR_HUMAN = "ask_for_human"
    FIND_LOOP = "find_loop"
    RESUME = "resume"
    CLOCK = "clock"
    EXCLUDE = "exclude"
    INCLUDE = "include"
    STOP = "stop"
    START = "start"
    GLOBAL_PAUSE = "global_pause"
    GLOBAL_RESUME = "global_resume"


TRANSITIONS: Mapping[tuple[State, Cause], State] = {
    (State.ACTIVE, Cause.HUMAN_SPOKE): State.HUMAN_TAKEOVER,
    (State.ACTIVE, Cause.PAUSE): State.MANUAL_PAUSE,
    (State.ACTIVE, Cause.HAND_OFF): State.AI_HANDOFF,
    (State.ACTIVE, Cause.ASK_FOR_HUMAN): State.CUSTOMER_REQUEST,
    (State.ACTIVE, Cause.FIND_LOOP): State.BOT_LOOP,
    # Whom the customer waited for has come; what somebody has silenced by hand stays so.
    (State.AI_HANDOFF, Cause.HUMAN_SPOKE): State.HUMAN_TAKEOVER,
    (State.CUSTOMER_REQUEST, Cause.HUMAN_SPOKE): State.HUMAN_TAKEOVER,
    (State.BOT_LOOP, Cause.HUMAN_SPOKE): State.HUMAN_TAKEOVER,
    (State.HUMAN_TAKEOVER, Cause.PAUSE): State.MANUAL_PAUSE,
    (State.AI_HANDOFF, Cause.PAUSE): State.MANUAL_PAUSE,
    (State.CUSTOMER_REQUEST, Cause.PAUSE): State.MANUAL_PAUSE,
    (State.BOT_LOOP, Cause.PAUSE): State.MANUAL_PAUSE,
    (State.HUMAN_TAKEOVER, Cause.RESUME): State.ACTIVE,
    (State.MANUAL_PAUSE, Cause.RESUME): State.ACTIVE,
    (State.AI_HANDOFF, Cause.RESUME): State.ACTIVE,
    (State.CUSTOMER_REQUEST, Cause.RESUME): State.ACTIVE,
    (State.BOT_LOOP, Cause.RESUME): State.ACTIVE,
    (State.HUMAN_TAKEOVER, Cause.CLOCK): State.ACTIVE,
    (State.MANUAL_PAUSE, Cause.CLOCK): State.ACTIVE,
    (State.AI_HANDOFF, Cause.CLOCK): State.ACTIVE,
    (State.CUSTOMER_REQUEST, Cause.CLOCK): State.ACTIVE,
    (State.BOT_LOOP, Cause.CLOCK): State.ACTIVE,
    (State.ACTIVE, Cause.EXCLUDE): State.EXCLUDED,
    (State.EXCLUDED, Cause.INCLUDE): State.ACTIVE,
    (State.ACTIVE, Cause.STOP): State.OPTED_OUT,
    (State.OPTED_OUT, Cause.START): State.ACTIVE,
    (State.ACTIVE, Cause.GLOBAL_PAUSE): State.GLOBAL_PAUSE,
    (State.GLOBAL_PAUSE, Cause.GLOBAL_RESUME): State.ACTIVE,
}
"""What each cause makes of each state; what is not here changes nothing."""

PAUSING: Mapping[PauseReason, Cause] = {
    PauseReason.HUMAN_TAKEOVER: Cause.HUMAN_SPOKE,
    PauseReason.MANUAL_PAUSE: Cause.PAUSE,
    PauseReason.AI_HANDOFF: Cause.HAND_OFF,
    PauseReason.CUSTOMER_REQUEST: Cause.ASK_FOR_HUMAN,
    PauseReason.BOT_LOOP: Cause.FIND_LOOP,
}
"""What leads to each pause."""


def after(state: State, cause: Cause) -> State:
    """What becomes of a state."""
    return TRANSITIONS.get((state, cause), state)


def pause_of(session: Session) -> State:
    """Where the pause of a chat stands, whatever else keeps the bot silent there."""
    return State(session.pause_reason or State.MANUAL_PAUSE) if session.is_paused else State.ACTIVE


def state_of(session: Session) -> State:
    """What keeps the bot silent in a chat, the most lasting reason first; ACTIVE: nothing does."""
    if session.is_excluded:
        return State.EXCLUDED
    if session.opted_out_at is not None:
        return State.OPTED_OUT
    if session.global_pause:
        return State.GLOBAL_PAUSE
    return pause_of(session)
