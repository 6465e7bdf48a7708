"""What a file is, told from its bytes by libmagic; knows nothing of where it comes from or what becomes of it."""

import importlib

_FIRST_BYTES = 1 << 20


def mimetype_of(data: bytes) -> str:
    """Told by the first bytes: a sender's or a server's word, and a file's name, are often wrong about it. Blocks."""
    provide_libmagic()
    magic = importlib.import_module("magic")
    found: str = magic.from_buffer(data[:_FIRST_BYTES], mime=True)
    return found


def provide_libmagic() -> None:
    """Makes `import magic`, which neonize does too, work on a machine without libmagic."""
    try:
        importlib.import_module("magic")
    except ImportError:
        # Brings a libmagic of its own and makes it findable; never in front of the machine's.
        importlib.import_module("pylibmagic")
