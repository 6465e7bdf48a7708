"""Makes this process's neonize trust the lab instead of WhatsApp, once; it opens no connection.

Both kinds of trust are process-wide. TLS: Go copies its environment when the library is loaded, so that is
when it is told the certificate; Python's own environment is left alone. Noise: the root key is replaced in
the library's memory before its first connection.
"""

import atexit
import functools
import importlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bot.filetypes import provide_libmagic
from bot.lab.certificate import Certificate
from bot.lab.environment import lent
from bot.lab.errors import TooLate, UnexpectedLibrary
from bot.lab.keys import KeyPair
from bot.lab.library import Library
from bot.lab.nodes import Tokens
from bot.transports.whatsapp.library import undisturbed

# How a lab of another process says whom to trust.
ROOT_VARIABLE, CERTIFICATE_VARIABLE = "WHATSAPP_LAB_ROOT", "WHATSAPP_LAB_CERTIFICATE"
# And where it is: the daemon's own setting, without which it would dial WhatsApp.
PROXY_VARIABLE = "SIDESTEP__WHATSAPP__PROXY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What every lab of this process proves itself with, and the language that its clients speak."""

    certificate: Certificate
    noise_root: KeyPair
    tokens: Tokens


@functools.cache
def prepare() -> Trust:
    """Loads neonize so that it trusts this process's labs. Raises TooLate if it was imported before."""
    folder = Path(tempfile.mkdtemp(prefix="sidestep-lab-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    certificate, noise_root = Certificate.issue(folder), KeyPair.generate()
    library = _load(certificate.file)
    library.trust(noise_root.public)
    return Trust(certificate=certificate, noise_root=noise_root, tokens=library.tokens())


def adopt(certificate: Path, noise_root: bytes) -> None:
    """Loads neonize so that it trusts a lab of another process."""
    _load(certificate).trust(noise_root)


def _load(certificate: Path) -> Library:
    if "neonize" in sys.modules:
        raise TooLate("neonize was imported before the lab: import bot.lab first, or call prepare() earlier")
    with lent("SSL_CERT_FILE", str(certificate)), undisturbed():
        provide_libmagic()
        binder = importlib.import_module("neonize._binder")
    path = getattr(binder.gocode, "_name", None)
    if not path:
        raise UnexpectedLibrary("neonize does not say which library it has loaded")
    return Library(Path(path).resolve())
