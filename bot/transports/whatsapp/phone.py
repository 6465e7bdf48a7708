"""Signs of the owner's phone: WhatsApp tells linked devices nothing about it, so its own doings have to do.

A phone that stays offline for two weeks loses its linked devices, and no warning comes before. That nothing
was heard of it is no proof that it is away: the owner may just not have used it. So this is told late, and as
what it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

from bot.transports.whatsapp.link import Handlers

_PHONE = 0  # among an account's devices


def attentive(handlers: Handlers, on_sign: Callable[[], None]) -> Handlers:
    """The same handlers; `on_sign` is called before one of them hears something that the owner's phone did."""
    sources: Mapping[str, Callable[[Any], Any]] = {
        "MessageEv": lambda event: event.Info.MessageSource,
        "ReceiptEv": lambda event: event.MessageSource,
    }

    def attend(name: str, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        def hear(event: Any) -> None:
            source = sources[name](event)
            if source.IsFromMe and source.Sender.Device == _PHONE:
                on_sign()
            handler(event)

        return hear if name in sources else handler

    return {name: attend(name, handler) for name, handler in handlers.items()}
