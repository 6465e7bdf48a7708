"""A bot in a process of its own: shows its QR code on stdout and answers every text with an echo of it."""

import asyncio
import os
import sys
from pathlib import Path

from bot.lab.host import trust_the_lab

trust_the_lab()

from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message  # noqa: E402 - only after trust_the_lab()

from tests.lab.bot_client import BotClient, text_of  # noqa: E402


async def main() -> None:
    client = BotClient(Path(sys.argv[1]), os.environ["SIDESTEP__WHATSAPP__PROXY"])
    await client.connect()
    showing = asyncio.create_task(show_codes(client))
    while not showing.done():
        event = await client.messages.expect(within=3600)
        await client.api.send_message(
            event.Info.MessageSource.Chat, Message(conversation=f"eco: {text_of(event)}")
        )


async def show_codes(client: BotClient) -> None:
    while True:
        print(await client.qr_codes.expect(within=3600), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
