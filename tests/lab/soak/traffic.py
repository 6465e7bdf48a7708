"""What people do all day, at random: customers write, owners step in, phones tell what was delivered and read."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random

from neonize.exc import NeonizeError
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.jid import build_jid

from bot.lab.directory import Addressing
from bot.lab.groups import Group
from bot.lab.heard import Heard
from bot.lab.lab import Lab
from bot.lab.messages import Card
from bot.lab.people import Customer, Owner
from bot.lab.sealing import new_id
from tests.lab.bot_client import BotClient
from tests.lab.soak.ledger import Author, Chat, Kind, Ledger
from tests.lab.soak.shop import Shop

CUSTOMERS = 48
RUSH = 40
_QUESTIONS = (
    "what is the price?",
    "Price, please",
    "good morning",
    "is anybody there?",
    "how much? The price!",
)
_PICTURE = bytes(range(256)) * 40
_LOOK_SECONDS = 0.25
_WRITING_TO_ONE, _WRITING_TO_SEVERAL = 0.8, 3


class Traffic:
    """`rate`: so many acts a second on the average. The same seed has the same people do the same in one order."""

    def __init__(self, lab: Lab, shop: Shop, random: Random, *, rate: float) -> None:
        self.ledger = Ledger()
        self.failed: list[str] = []
        self._random, self._rate = random, rate
        self._owners, self._desks = list(shop.owners.values()), shop.desks
        self.customers = [lab.customer(f"+55218888{n:05}", name=f"Ana {n}") for n in range(CUSTOMERS)]
        self._chats = [
            (customer, owner) for n, customer in enumerate(self.customers) for owner in self._shops_of(n)
        ]
        self._groups = list(self._meet(lab))
        self._in_order = True
        self._last: dict[Chat, str] = {}  # each customer's last text, to be edited or revoked
        self._tasks: set[asyncio.Task[None]] = set()
        self._acts: list[tuple[int, Callable[[Customer, Owner, Chat], Awaitable[None]]]] = [
            (50, self._asks),
            (12, self._asks_in_pieces),
            (5, self._sends_a_picture),
            (4, self._sends_something_else),
            (4, self._edits),
            (3, self._revokes),
            (4, self._reacts),
            (3, self._types),
            (1, self._asks_for_help),
            (10, self._talks_in_a_group),
            (5, self._takes_over),
            (4, self._resumes),
            (1, self._asks_for_the_status),
        ]

    def _shops_of(self, n: int) -> list[Owner]:
        """Most customers know one of the numbers, some know several of them."""
        count = 1 if self._random.random() < _WRITING_TO_ONE else _WRITING_TO_SEVERAL
        start = n % len(self._owners)
        return [self._owners[(start + i) % len(self._owners)] for i in range(count)]

    def _meet(self, lab: Lab) -> Iterator[tuple[Group, Owner, list[Customer]]]:
        for n, owner in enumerate(self._owners[::2]):
            members = self._random.sample(self.customers, 4)
            addressed: Addressing = "phone" if n % 3 == 0 else "lid"
            yield lab.group(f"Friends {n}", owner, *members, addressed=addressed), owner, members

    async def run(self, seconds: float) -> None:
        weights = [weight for weight, _ in self._acts]
        watching = asyncio.create_task(self._watch_phones())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self._random.expovariate(self._rate))
            (_, act), (customer, owner) = (
                self._random.choices(self._acts, weights)[0],
                self._random.choice(self._chats),
            )
            self._spawn(act(customer, owner, Chat(business=owner.number, customer=customer.number)))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=30)
        watching.cancel()
        await asyncio.wait([watching])

    @contextmanager
    def without_order(self) -> Iterator[None]:
        """What is written within the block arrives in any order."""
        self._in_order = False
        try:
            yield
        finally:
            self._in_order = True

    async def rush(self) -> None:
        """Many ask at the same time."""
        chats = self._random.sample(self._chats, RUSH)
        asking = [
            self._noting_failures(
                self._asks(customer, owner, Chat(business=owner.number, customer=customer.number))
            )
            for customer, owner in chats
        ]
        await asyncio.gather(*asking)

    # -- customers --

    async def _asks(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        await self._says(customer, owner, chat, "text")

    async def _asks_in_pieces(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        pause = self._random.uniform(0, 0.3)
        for _ in range(self._random.randint(2, 4)):
            await self._says(customer, owner, chat, "burst")
            await asyncio.sleep(pause)

    async def _says(self, customer: Customer, owner: Owner, chat: Chat, kind: Kind) -> None:
        damaged = self._random.random() < 0.03
        text, message_id = self._random.choice(_QUESTIONS), new_id()
        addressing: Addressing = "phone" if self._random.random() < 0.3 else "lid"
        with_alt = self._random.random() < 0.7
        self.ledger.note(message_id, chat, "customer", kind, in_order=self._in_order and not damaged)
        self._last[chat] = message_id
        await customer.says(
            text, to=owner, addressed=addressing, with_alt=with_alt, id=message_id, damaged=damaged
        )

    async def _sends_a_picture(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        message_id = new_id()
        caption = self._random.choice(("", "the price of this?"))
        self.ledger.note(message_id, chat, "customer", "picture", in_order=self._in_order)
        await customer.sends_image(_PICTURE, caption=caption, to=owner, message_id=message_id)

    async def _sends_something_else(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        message_id = new_id()
        if self._random.random() < 0.5:
            self.ledger.note(message_id, chat, "customer", "place", in_order=self._in_order)
            await customer.sends_location(-23.5, -46.6, name="here", to=owner, message_id=message_id)
        else:
            self.ledger.note(message_id, chat, "customer", "card", in_order=self._in_order)
            card = Card(name="Bia", number="+5511888889999")
            await customer.sends_contact(card, to=owner, message_id=message_id)

    async def _edits(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        if target := self._last.get(chat):
            self._note_change(await customer.edits(target, "the price, I mean", to=owner), chat, "edit")

    async def _revokes(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        if target := self._last.pop(chat, None):
            self._note_change(await customer.revokes(target, to=owner), chat, "revoke")

    async def _reacts(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        answers = [heard for heard in customer.heard[-30:] if heard.sender == owner.number]
        if answers:
            emoji = self._random.choice(("👍", "❤️", ""))
            self._note_change(await customer.reacts(answers[-1], emoji, to=owner), chat, "reaction")

    def _note_change(self, message_id: str, chat: Chat, kind: Kind) -> None:
        self.ledger.note(message_id, chat, "customer", kind, in_order=False)

    async def _types(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        await customer.types(to=owner, stops=self._random.random() < 0.5)

    async def _asks_for_help(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        message_id = new_id()
        self.ledger.note(message_id, chat, "customer", "command", in_order=self._in_order)
        await customer.says("/help", to=owner, id=message_id)

    async def _talks_in_a_group(self, _customer: Customer, _owner: Owner, _chat: Chat) -> None:
        group, owner, members = self._random.choice(self._groups)
        writer, message_id = self._random.choice([owner, *members]), new_id()
        chat = Chat(business=owner.number, customer=str(group))
        author: Author = "human" if writer is owner else "customer"
        self.ledger.note(message_id, chat, author, "group", in_order=False)
        mentions = (owner,) if self._random.random() < 0.5 else ()
        await writer.says("the price?", to=group, id=message_id, mentions=mentions)

    # -- owners --

    async def _takes_over(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        if (desk := self._desks.get(owner.number)) and self._random.random() < 0.5:
            await self._writes_at_the_desk(desk, customer, chat)
        else:
            await self._writes(customer, owner, chat, "takeover", "hi, it is me")

    async def _writes_at_the_desk(self, desk: BotClient, customer: Customer, chat: Chat) -> None:
        at, to = time.monotonic(), build_jid(customer.account.lid.user, "lid")
        # What fails may have arrived all the same: the audit tells such messages by their device.
        with suppress(NeonizeError):
            response = await desk.api.send_message(to, Message(conversation="hi, from the desk"))
            self.ledger.note(response.ID, chat, "human", "takeover", at=at)

    async def _resumes(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        await self._writes(customer, owner, chat, "command", "/resume")

    async def _writes(self, customer: Customer, owner: Owner, chat: Chat, kind: Kind, text: str) -> None:
        message_id = new_id()
        self.ledger.note(message_id, chat, "human", kind)
        await owner.says(text, to=customer, id=message_id)

    async def _asks_for_the_status(self, customer: Customer, owner: Owner, chat: Chat) -> None:
        message_id = new_id()
        own = Chat(business=owner.number, customer=owner.number)
        self.ledger.note(message_id, own, "human", "command")
        await owner.says("/status", id=message_id)

    # -- phones --

    async def _watch_phones(self) -> None:
        """Receipts, in any order and number, for what customers are sent."""
        seen = dict.fromkeys(self.customers, 0)
        places: dict[str, Owner | Group] = {owner.number: owner for owner in self._owners}
        places |= {str(group): group for group, _, _ in self._groups}
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for customer in self.customers:
                news = customer.heard[seen[customer] :]
                seen[customer] += len(news)
                for heard in news:
                    if heard.id not in self.ledger.said:
                        self._spawn(self._acknowledges(customer, places[heard.chat], heard))

    async def _acknowledges(self, customer: Customer, where: Owner | Group, heard: Heard) -> None:
        kinds: list[Callable[..., Awaitable[None]]] = [customer.delivered, customer.read]
        if self._random.random() < 0.2:
            kinds.reverse()
        if self._random.random() < 0.2:
            kinds.append(self._random.choice(kinds))
        for tell in kinds:
            await asyncio.sleep(self._random.expovariate(1.0))
            if tell == customer.read:
                self.ledger.reads.add(heard.id)
            await tell(heard, to=where)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._noting_failures(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _noting_failures(self, work: Awaitable[None]) -> None:
        # A connection that a fault has cut meanwhile: what was said waits at the server.
        with suppress(ConnectionError):
            try:
                await work
            except ConnectionError:
                raise
            except Exception as error:  # noqa: BLE001 - a defect of the lab's people, told at the end
                self.failed.append(repr(error))
