"""The daemon in a process of its own that takes a lab of another process for WhatsApp; it changes nothing else.

`python -m bot.lab.host -- run --config …`, in an environment from `Lab.child_environment`. The arguments
after the dashes are those of `sidestep`.
"""

import ipaddress
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from bot.lab.errors import LabError
from bot.lab.trust import CERTIFICATE_VARIABLE, PROXY_VARIABLE, ROOT_VARIABLE, adopt


def trust_the_lab() -> None:
    """Before neonize is imported. Raises LabError if the environment names no lab."""
    try:
        certificate, root = Path(os.environ[CERTIFICATE_VARIABLE]), bytes.fromhex(os.environ[ROOT_VARIABLE])
    except (KeyError, ValueError) as exc:
        raise LabError("no lab to trust: the environment has to come from Lab.child_environment()") from exc
    if not _is_on_this_machine(os.environ.get(PROXY_VARIABLE, "")):
        raise LabError(
            f"{PROXY_VARIABLE} does not lead to a lab on this machine: it has to come from Lab.child_environment()"
        )
    adopt(certificate, root)


def _is_on_this_machine(proxy: str) -> bool:
    try:
        return ipaddress.ip_address(urlsplit(proxy).hostname or "").is_loopback
    except ValueError:
        return False


def main() -> None:
    try:
        trust_the_lab()
    except LabError as error:
        sys.exit(str(error))
    arguments = sys.argv[1:]
    sys.argv[1:] = arguments[1:] if arguments[:1] == ["--"] else arguments
    # Only now: the daemon imports neonize, which has to be prepared.
    from bot.__main__ import main as sidestep

    sidestep()


if __name__ == "__main__":
    main()
