"""The WhatsApp transport as tests watch it: everything it delivers, by kind, and short waits for it."""

import asyncio
import datetime as dt

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from bot.lab.timeline import PATIENCE, Timeline
from bot.transports.base import (
    ConnectionChanged,
    ConnectionState,
    Content,
    History,
    PairBy,
    Paired,
    PairingCode,
    Sent,
    TransportEvent,
)
from bot.transports.whatsapp.client import WhatsAppTransport
from bot.transports.whatsapp.clients import HistoryDepth
from bot.transports.whatsapp.patience import Patience
from bot.transports.whatsapp.sender import LONGEST_SEND
from storage.models import ChatNamed, InboundMessage, Jid, Receipt, Typing, Unopened
from tests.conftest import connected, until

AT_ONCE = 10.0
"""Seconds in which something ends that would else be waited for a minute and more."""


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


async def make_session_schema(dsn: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute("CREATE SCHEMA IF NOT EXISTS whatsmeow")


async def get_two_ticks(customer: Customer) -> None:
    """What a customer says ends so. The transport asks for it after a login, which the first words may outrun."""

    async def gets_two_ticks() -> bool:
        message_id = await customer.says("ei")
        return (await customer.sees_receipt(message_id)).kind == "delivered"

    await until(gets_two_ticks)


class TransportBot:
    """One run of a transport. `break_on` makes its inbox fail at messages with this text."""

    def __init__(
        self,
        dsn: str,
        lab: Lab,
        *,
        jid: Jid | None = None,
        account: str = "shop",
        phone: str | None = None,
        longest_send: dt.timedelta = LONGEST_SEND,
        history: HistoryDepth = "recent",
        patience: Patience | None = None,
    ) -> None:
        self.messages: Timeline[InboundMessage] = Timeline()
        self.past: Timeline[InboundMessage] = Timeline()
        self.unopened: Timeline[InboundMessage] = Timeline()
        self.names: dict[Jid, str] = {}
        self.receipts: Timeline[Receipt] = Timeline()
        self.typing: Timeline[Typing] = Timeline()
        self.subjects: Timeline[ChatNamed] = Timeline()
        self.states: Timeline[ConnectionChanged] = Timeline()
        self.qr_codes: Timeline[str] = Timeline()
        self.codes: Timeline[str] = Timeline()
        self.paired: Timeline[Paired] = Timeline()
        self.break_on: str | None = None
        self.transport = WhatsAppTransport(
            account=account,
            store_dsn=dsn,
            jid=jid,
            proxy=lab.proxy_url,  # without one neonize would dial the real WhatsApp
            clock=now,
            phone=phone,
            history=history,
            longest_send=longest_send,
            patience=patience or Patience(),
        )
        self.running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.running = asyncio.create_task(self.transport.run(self._deliver))

    async def stop(self) -> None:
        if self.running is not None:
            self.running.cancel()
            await asyncio.wait([self.running])

    def _deliver(self, event: TransportEvent) -> None:
        match event:
            case InboundMessage():
                if self.break_on is not None and event.text == self.break_on:
                    raise RuntimeError("the inbox is broken")
                self.messages.note(event)
            case History():
                self.names |= event.names
                for message in event.messages:
                    self.past.note(message)
            case _:
                self._note(event)

    def _note(self, event: TransportEvent) -> None:
        match event:
            case Unopened(message=message):
                self.unopened.note(message)
            case Receipt():
                self.receipts.note(event)
            case Typing():
                self.typing.note(event)
            case ChatNamed():
                self.subjects.note(event)
            case ConnectionChanged():
                self.states.note(event)
            case PairingCode():
                (self.qr_codes if event.by is PairBy.QR else self.codes).note(event.text)
            case Paired():
                self.paired.note(event)

    async def pair(self, owner: Owner) -> None:
        self.start()
        await owner.scan(await self.qr_codes.expect(what="a QR code"))
        await self.reaches(ConnectionState.CONNECTED)

    async def reaches(self, state: ConnectionState, *, within: float = PATIENCE) -> ConnectionChanged:
        return await self.states.expect(
            lambda change: change.connection.state is state, within=within, what=state
        )

    async def message(self, text: str | None, *, within: float = PATIENCE) -> InboundMessage:
        return await self.messages.expect(
            lambda message: message.text == text, within=within, what=repr(text)
        )

    async def remembered(self, text: str | None, *, within: float = PATIENCE) -> InboundMessage:
        """A message of before the number was linked."""
        return await self.past.expect(lambda message: message.text == text, within=within, what=repr(text))

    async def says(self, to: str, text: str) -> Sent:
        return await self.sends(to, Content(text=text))

    async def sends(self, to: str, content: Content) -> Sent:
        return await self.transport.send(Jid(to), await self.transport.prepare(content))

    async def receipt(self, sent: Sent, *, within: float = PATIENCE) -> Receipt:
        return await self.receipts.expect(
            lambda receipt: sent.external_id in receipt.external_ids, within=within, what="a receipt"
        )
