"""What can go wrong in the lab, one tree; it holds nothing else.

LabError
├── TooLate             neonize was imported before the lab could prepare the process
├── UnexpectedLibrary   the loaded neonize does not look as the lab knows it
├── ProtocolError       a client said something that WhatsApp would not accept
│   └── SignalError     a ciphertext that does not open
│       └── Duplicate   a ciphertext that was opened before
└── Unheard             what a test waited for did not come in time
"""


class LabError(Exception):
    """Root of the lab's errors."""


class TooLate(LabError):
    """neonize was imported before the lab could prepare the process."""


class UnexpectedLibrary(LabError):
    """The loaded neonize does not look as the lab knows it."""


class ProtocolError(LabError):
    """A client said something that WhatsApp would not accept."""


class SignalError(ProtocolError):
    """A ciphertext that does not open."""


class Duplicate(SignalError):
    """A ciphertext that was opened before, or another that was sealed with the same key.

    `opened_at`, by time.monotonic, is when the first of the two was opened, where that is known.
    """

    def __init__(self, what: str, *, opened_at: float | None = None) -> None:
        super().__init__(what)
        self.opened_at = opened_at


class Unheard(LabError, TimeoutError):
    """What a test waited for did not come in time."""
