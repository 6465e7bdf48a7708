"""The time between two links: how long an account stays away, what is shown, and what cuts it short; links nothing."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from bot.transports.base import ConnectionState
from bot.transports.whatsapp.invitation import EXPIRED, Invitation
from bot.transports.whatsapp.patience import Patience, Random
from bot.transports.whatsapp.state import State
from bot.transports.whatsapp.verdicts import End, Verdict
from bot.transports.whatsapp.watch import Watch


class Rest:
    """One account's. It is wanted from the beginning, and from `resume` to `suspend`."""

    def __init__(
        self, state: State, clock: Callable[[], datetime], patience: Patience, chance: Random
    ) -> None:
        self._state = state
        self._clock = clock
        self._patience = patience
        self._chance = chance
        self._failures = 0
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._wake = asyncio.Event()

    def suspend(self) -> None:
        """No further link until `resume`."""
        self._wanted.clear()
        self._wake.set()

    def resume(self) -> None:
        """Also cuts a pause short."""
        self._wanted.set()
        self._wake.set()

    async def until_wanted(self) -> None:
        await self._wanted.wait()
        self._wake.clear()

    async def after(self, end: End, watch: Watch, invitation: Invitation) -> None:
        """Returns when it is time for the link after the one that `watch` has seen. PairingFailed: there is none."""
        if watch.has_held:
            self._failures = 0
            invitation.begin_anew()
        match end:
            case End.FAILED:
                await self._pause(self._patience.after_failure(self._failures, self._chance))
                self._failures += 1
            case End.REJECTED:
                await self._pause(self._patience.after_rejection(self._failures, self._chance))
                self._failures += 1
            case End.BANNED if watch.verdict is not None:
                await self._sit_out(watch.verdict)
            case End.QR_EXPIRED:
                if pause := invitation.after_expiry():
                    self._state.show(ConnectionState.PAIRING, EXPIRED)
                    await self._pause(pause)
            case _:
                pass  # suspended

    async def _pause(self, pause: timedelta) -> None:
        """Until `resume`, at most."""
        if self._wake.is_set():
            return
        shown = self._state.connection
        self._state.show(shown.state, shown.advice, next_try=self._clock() + pause)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause.total_seconds()):
                await self._wake.wait()

    async def _sit_out(self, verdict: Verdict) -> None:
        """A ban is waited out whatever happens meanwhile: each login within it can make it longer."""
        until = self._clock() + self._patience.after_ban(verdict.ban, self._chance)
        while self._clock() < until:
            await self.until_wanted()
            self._state.show(verdict.state, verdict.advice)
            await self._pause(until - self._clock())
