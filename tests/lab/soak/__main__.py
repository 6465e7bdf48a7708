"""Runs the soak and tells how it went; exit 1 if anything that must hold did not."""

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import structlog

from bot.lab import prepare

prepare()  # before anything imports neonize

from bot.lab.lab import Lab  # noqa: E402
from bot.transports.whatsapp import library  # noqa: E402
from storage.embedded import embedded  # noqa: E402
from tests.conftest import connected  # noqa: E402
from tests.lab.soak.audit import Audit, Report  # noqa: E402
from tests.lab.soak.gauges import Sample, sample, trends  # noqa: E402
from tests.lab.soak.shop import Shop  # noqa: E402
from tests.lab.soak.traffic import Traffic  # noqa: E402
from tests.lab.soak.trouble import Trouble  # noqa: E402

PENDING = """
SELECT (SELECT count(*) FROM sidestep.decisions WHERE action_taken IS NULL)
     + (SELECT count(*) FROM sidestep.outbox WHERE status IN ('queued', 'sending'))
"""
PROGRESS = """
SELECT (SELECT count(*) FROM sidestep.messages WHERE author <> 'bot') AS recorded,
       (SELECT count(*) FROM sidestep.outbox WHERE sent_at IS NOT NULL) AS sent,
       (SELECT count(*) FROM sidestep.decisions WHERE action_taken IS NULL) AS undecided
"""
_SAMPLE_SECONDS, _PROGRESS_SECONDS = 5.0, 30.0
# The longest that anything may rightly be under way: a send without an answer, and the longest back-off.
_SETTLE_SECONDS = 240.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rate", type=float, default=6.0, help="acts a second, on the average (default: 6)")
    arguments = parser.parse_args()
    print(f"soak: {arguments.minutes:g} minutes, seed {arguments.seed}, rate {arguments.rate:g}", flush=True)
    # Where we are root PostgreSQL runs as another account.
    folder = Path(tempfile.mkdtemp(prefix="sidestep-soak-"))
    folder.chmod(0o711)
    _send_the_library_to(folder / "library.log")
    report = asyncio.run(soak(folder, arguments.minutes * 60, arguments.seed, arguments.rate))
    print(f"\nseed {arguments.seed}")
    for name, figure in report.figures.items():
        print(f"  {name:38} {figure}")
    if report.violations:
        (folder / "violations.txt").write_text("".join(report.details))
        print(f"\n{len(report.violations)} violations (all of them, and the daemon's log, in {folder}):")
        print("\n".join(f"  {violation}" for violation in report.violations))
        return 1
    print("\nall that must hold has held")
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _send_the_library_to(log: Path) -> None:
    """Keeps the report readable: the desks' neonize runs in this process, and Go prints what it likes."""
    library.silence_go_output()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


async def soak(folder: Path, seconds: float, seed: int, rate: float) -> Report:
    async with embedded(folder / "data", durable=False) as dsn, Lab() as lab:
        shop = Shop(lab, dsn, folder)
        try:
            return await _soak(lab, shop, seconds, seed, rate)
        finally:
            await shop.close()


async def _soak(lab: Lab, shop: Shop, seconds: float, seed: int, rate: float) -> Report:
    traffic = Traffic(lab, shop, Random(f"traffic {seed}"), rate=rate)
    trouble = Trouble(lab, shop, traffic, Random(f"trouble {seed}"))
    await shop.open()
    await shop.wait_until_connected(60)
    print(f"{len(shop.owners)} numbers are linked and connected", flush=True)
    samples: list[Sample] = []
    watching = [
        asyncio.create_task(_sample(shop, samples)),
        asyncio.create_task(_tell(shop, traffic, trouble, samples)),
    ]
    await asyncio.gather(traffic.run(seconds), trouble.run(seconds))
    settled = await _settle(lab, shop)
    for task in watching:
        task.cancel()
    await asyncio.wait(watching)
    audit = Audit(lab, shop, traffic.customers, traffic.ledger)
    report = await audit.run()
    if not settled:
        report.violations.insert(0, f"not at rest {_SETTLE_SECONDS:.0f} s after the last message")
        waiting = {name: device.waiting for name, device in shop.devices.items() if device.waiting}
        report.blame("not acknowledged by the daemon (number, stanzas)", waiting.items())
    report.blame("the lab's people failed", traffic.failed)
    report.blame("questions that the lab cannot answer", lab.unanswered)
    report.blame("hosts other than WhatsApp's", lab.refused)
    report.figures["troubles"] = dict(trouble.counts)
    report.figures["warnings in the log"] = shop.warnings
    for trend in trends(samples):
        report.figures[f"life of {trend.first.pid}"] = trend
        report.blame("not flat", [str(trend)] if not trend.is_flat else [])
    return report


async def _settle(lab: Lab, shop: Shop) -> bool:
    """Waits until nothing is under way, then stops the daemon."""
    await shop.wait_until_connected(_SETTLE_SECONDS)
    end = time.monotonic() + _SETTLE_SECONDS
    at_rest = 0
    async with connected(shop.dsn) as connection:
        while at_rest < 3 and time.monotonic() < end:
            await asyncio.sleep(1)
            waiting = sum(device.waiting for device in shop.devices.values())
            pending = await connection.fetchval(PENDING)
            at_rest = 0 if pending or waiting else at_rest + 1
    await shop.end(signal.SIGTERM)
    return at_rest > 0


async def _sample(shop: Shop, samples: list[Sample]) -> None:
    while True:
        await asyncio.sleep(_SAMPLE_SECONDS)
        if shop.is_up and (taken := await sample(shop.life.process.pid, shop.dsn, shop.life.links)):
            samples.append(taken)


async def _tell(shop: Shop, traffic: Traffic, trouble: Trouble, samples: list[Sample]) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        async with connected(shop.dsn) as connection:
            row = await connection.fetchrow(PROGRESS)
        assert row is not None
        now = samples[-1] if samples else None
        used = f"{now.resident_mb:.0f} MB, {now.threads} threads, {now.sessions} sessions" if now else ""
        print(
            f"{time.monotonic() - began:5.0f} s: said {len(traffic.ledger.said)}, recorded {row['recorded']}, "
            f"undecided {row['undecided']}, sent {row['sent']}, troubles {trouble.counts.total()}, "
            f"problems {len(shop.problems)}; {used}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
