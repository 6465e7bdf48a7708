"""The demo's shop is the one that the manual ships with."""

from pathlib import Path

import pytest

from bot.config import load
from bot.demo import _Screen, sample_config
from bot.events import Decided
from bot.roles import phone_jid
from bot.simulation import CUSTOMER
from storage.models import Action, ChatId, MessageId

ROOT = Path(__file__).parents[2]


def test_the_demo_is_the_manuals_shop() -> None:
    manual = load(ROOT / "config.yaml", environ={}, dotenv=Path("/nonexistent"))
    sample = sample_config()
    assert sample.flows == manual.flows
    assert sample.tenants[0].owner == manual.tenants[0].owner


@pytest.mark.parametrize(
    ("action", "detail", "told"),
    [
        (Action.COMMAND_DONE, "stop_unanswered", "says nothing"),
        (Action.COMMAND_DONE, "start_unanswered", "says nothing"),
        (Action.COMMAND_REFUSED, "bad_time", "nothing was done"),
        (Action.COMMAND_DONE, "stop", ""),  # the goodbye tells it
    ],
)
def test_a_command_without_an_answer_gets_a_remark(
    capsys: pytest.CaptureFixture[str], action: Action, detail: str, told: str
) -> None:
    decided = Decided(
        chat_id=ChatId(1),
        message_id=MessageId(2),
        external_id=None,
        jid=phone_jid(CUSTOMER),
        action=action,
        detail=detail,
    )
    _Screen(sample_config()).tell(decided)
    out = capsys.readouterr().out
    assert told in out
    assert bool(told) is bool(out)
