"""The demo's shop is the one that the manual ships with."""

from pathlib import Path

from bot.config import load
from bot.demo import sample_config

ROOT = Path(__file__).parents[2]


def test_the_demo_is_the_manuals_shop() -> None:
    manual = load(ROOT / "config.yaml", environ={}, dotenv=Path("/nonexistent"))
    sample = sample_config()
    assert sample.flows == manual.flows
    assert sample.tenants[0].owner == manual.tenants[0].owner
