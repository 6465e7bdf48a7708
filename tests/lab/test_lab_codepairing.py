"""The real neonize is linked by the code that it shows, and by no other, and learns why there is none."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from neonize.exc import PairPhoneError

from bot.lab.errors import LabError
from bot.lab.lab import Lab
from bot.lab.people import Customer, Owner
from tests.lab.bot_client import BotClient

pytestmark = pytest.mark.lab


@pytest.fixture
async def unlinked(lab: Lab, tmp_path: Path) -> AsyncIterator[BotClient]:
    """A client that shows its first QR code: from then on it can ask for a code."""
    client = BotClient(tmp_path / "bot.db", lab.proxy_url)
    await client.connect()
    await client.qr_codes.expect(what="a QR code")
    yield client
    await client.stop()


async def code_for(client: BotClient, number: str) -> str:
    code: str = await client.api.PairPhone(number, True)
    return code


async def test_the_code_links_the_account(
    lab: Lab, unlinked: BotClient, owner: Owner, customer: Customer
) -> None:
    device = await owner.enters(await code_for(unlinked, owner.number))
    await unlinked.connected()
    assert unlinked.api.me.JID.User == owner.account.phone.user
    assert owner.linked == [device]
    await customer.says("oi")
    await unlinked.message("oi")
    assert lab.unanswered == []


async def test_a_wrong_code_links_nothing_and_the_right_one_still_does(
    unlinked: BotClient, owner: Owner
) -> None:
    code = await code_for(unlinked, owner.number)
    wrong = ("A" if code[0] != "A" else "B") + code[1:]
    with pytest.raises(LabError, match="not the code"):
        await owner.enters(wrong)
    assert owner.linked == []
    await owner.enters(code.lower().replace("-", ""))
    await unlinked.connected()


async def test_what_cannot_be_a_code_is_refused_by_the_phone(owner: Owner) -> None:
    for typed in ("ABC", "ABCD-EFG0", "ABCD-EFGHJ"):
        with pytest.raises(LabError, match="eight letters and digits"):
            await owner.enters(typed)


async def test_a_code_is_for_its_number_only(lab: Lab, unlinked: BotClient, owner: Owner) -> None:
    other = lab.owner("+5511999990002")
    code = await code_for(unlinked, owner.number)
    with pytest.raises(LabError, match="nobody has asked"):
        await other.enters(code)


async def test_a_code_that_is_entered_too_late_is_refused(
    lab: Lab, unlinked: BotClient, owner: Owner
) -> None:
    code = await code_for(unlinked, owner.number)
    lab.expire_pairing()
    with pytest.raises(LabError, match="expired"):
        await owner.enters(code)


async def test_the_newest_code_counts(unlinked: BotClient, owner: Owner) -> None:
    first, second = [await code_for(unlinked, owner.number) for _ in range(2)]
    with pytest.raises(LabError, match="not the code"):
        await owner.enters(first)
    await owner.enters(second)
    await unlinked.connected()


async def test_the_server_refuses_a_code(lab: Lab, unlinked: BotClient, owner: Owner) -> None:
    with lab.refuse_codes(429), pytest.raises(PairPhoneError, match="429"):
        await code_for(unlinked, owner.number)
    with pytest.raises(PairPhoneError, match="404"):
        await code_for(unlinked, "+5511900000000")
    await owner.enters(await code_for(unlinked, owner.number))
    await unlinked.connected()
