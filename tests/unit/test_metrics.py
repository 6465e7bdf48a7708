"""What Prometheus reads: the contract's names, and no label that tells who somebody is."""

from __future__ import annotations

import re

from bot.metrics import JobOutcome, Metrics, TokenKind
from bot.transports.base import ConnectionState
from storage.models import Action, Author, Direction, Status


def filled() -> str:
    metrics = Metrics()
    metrics.count_message("shop", Direction.INBOUND, Author.CUSTOMER)
    metrics.count_decision(Action.AI_REPLIED)
    metrics.count_status(Status.QUEUED)
    metrics.count_status(Status.QUEUED)
    metrics.observe_takeover(0.004)
    metrics.observe_resume_lag(0.3)
    metrics.observe_record(0.001)
    metrics.observe_reply(2.5)
    metrics.set_connection("shop", ConnectionState.STARTING)
    metrics.set_connection("shop", ConnectionState.CONNECTED)
    metrics.count_tokens("openai", "gpt-6-luna", TokenKind.OUTPUT, 12)
    metrics.count_job("auto_resume", JobOutcome.OK)
    return metrics.render().decode()


def test_every_metric_of_the_contract_is_there() -> None:
    lines = filled().splitlines()
    for line in (
        'sidestep_messages_total{account="shop",author="customer",direction="inbound"} 1.0',
        'sidestep_decisions_total{action="ai_replied"} 1.0',
        'sidestep_outbox{status="queued"} 2.0',
        'sidestep_outbox{status="failed"} 0.0',
        'sidestep_takeover_seconds_bucket{le="0.005"} 1.0',
        'sidestep_takeover_seconds_bucket{le="0.002"} 0.0',
        "sidestep_resume_lag_seconds_count 1.0",
        "sidestep_record_seconds_count 1.0",
        "sidestep_reply_seconds_sum 2.5",
        'sidestep_ai_tokens_total{kind="output",model="gpt-6-luna",provider="openai"} 12.0',
        'sidestep_job_runs_total{job="auto_resume",outcome="ok"} 1.0',
    ):
        assert line in lines


def test_a_decision_that_was_never_made_counts_none() -> None:
    assert 'sidestep_decisions_total{action="quarantined"} 0.0' in filled()


def test_an_account_is_in_one_state_at_a_time() -> None:
    states = dict(re.findall(r'sidestep_connection_state\{account="shop",state="(\w+)"\} (\d)', filled()))
    assert len(states) == len(ConnectionState)
    assert [state for state, on in states.items() if on == "1"] == ["connected"]


def test_a_number_as_an_accounts_name_is_not_shown() -> None:
    metrics = Metrics()
    metrics.count_message("5511999990000", Direction.INBOUND, Author.CUSTOMER)
    metrics.set_connection("5511999990000@s.whatsapp.net", ConnectionState.CONNECTED)
    assert "5511999990000" not in metrics.render().decode()


def test_two_daemons_in_one_process_do_not_mix() -> None:
    filled()
    assert 'sidestep_decisions_total{action="ai_replied"} 0.0' in Metrics().render().decode()
