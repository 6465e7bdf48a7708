"""Nothing leaves the machine: whatever the real library does with a lab, its sockets end here."""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from neonize.aioze.events import DisconnectedEv
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message
from neonize.utils.jid import build_jid

from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.lab.conftest import Link

pytestmark = pytest.mark.lab


def own_sockets() -> set[str]:
    """The inodes of this process's sockets, those that Go has opened among them."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # closed meanwhile
        if target.startswith("socket:"):
            found.add(target[len("socket:[") : -1])
    return found


def far_ends() -> Iterator[IPv4Address | IPv6Address]:
    """Where this process's TCP and UDP sockets lead."""
    mine = own_sockets()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in mine:
                yield _address(fields[2].partition(":")[0])


def _address(text: str) -> IPv4Address | IPv6Address:
    """The kernel writes each word of an address in its own order of bytes."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    address = ip_address(b"".join(words))
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def leaving() -> list[IPv4Address | IPv6Address]:
    return [end for end in far_ends() if not end.is_loopback and not end.is_unspecified]


async def test_every_socket_of_the_process_ends_on_this_machine(
    lab: Lab, link: Link, owner: Owner, customer: Customer
) -> None:
    client = await link(owner)
    seen = leaving()
    await customer.sends_image(b"\x89PNG" * 100, caption="olha")
    await client.api.download_any((await client.message("olha")).Message)
    seen += leaving()
    chat = build_jid(customer.account.lid.user, "lid")
    await client.api.send_message(chat, Message(conversation="olá"))
    await client.api.is_on_whatsapp(customer.number)
    seen += leaving()
    async with lab.outage():
        await client.event(DisconnectedEv)
        seen += leaving()
    await client.connected()
    assert seen + leaving() == []
    assert lab.refused == []


def test_a_socket_that_leaves_would_be_seen() -> None:
    """UDP sends nothing when it connects; 192.0.2.0/24 is kept free for examples."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            out.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no way out")
        assert leaving() == [ip_address("192.0.2.1")]
    assert leaving() == []
