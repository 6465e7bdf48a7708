"""A WhatsApp of our own, on this machine, for the real neonize: `Lab`, and `prepare`, before neonize is imported.

    async with Lab() as lab:                                  # lab.proxy_url is what whatsapp.proxy needs
        owner = lab.owner("+5511999990000")
        customer = lab.customer("+5511888880001", name="Ana")
        await owner.scan(qr_code)                             # links the client that shows it
        message_id = await customer.says("oi")                # also sends_image, edits, reacts, types …
        answer = await customer.hears("olá")                  # decrypted on her phone
        await customer.read(answer)                           # the bot gets a receipt
        await owner.says("já respondo", to=customer)          # from the owner's own phone, in her chat
        async with lab.outage():
            ...

Importing this package loads nothing; the first use of `Lab` loads neonize, prepared.
"""

from typing import TYPE_CHECKING, Any

from bot.lab.trust import prepare

if TYPE_CHECKING:
    from bot.lab.lab import Lab
    from bot.lab.people import Customer, Owner

__all__ = ["Customer", "Lab", "Owner", "prepare"]


# Late, so that `bot.lab.host` can say whom to trust before neonize is loaded.
def __getattr__(name: str) -> Any:
    if name == "Lab":
        from bot.lab.lab import Lab

        return Lab
    if name in ("Customer", "Owner"):
        from bot.lab import people

        return getattr(people, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
