"""The lab's TLS certificate for WhatsApp's host names; it signs nothing else and its key stays in one folder."""

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_HOSTS = ("web.whatsapp.com", "*.whatsapp.com", "*.whatsapp.net", "*.cdn.whatsapp.net")
_VALID = dt.timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """An authority and a server certificate in one: clients trust the very certificate that they are shown."""

    file: Path
    key_file: Path

    @classmethod
    def issue(cls, folder: Path) -> "Certificate":
        key = ec.generate_private_key(ec.SECP256R1())
        issued = cls(file=folder / "authority.pem", key_file=folder / "authority.key")
        issued.file.write_bytes(_signed(key).public_bytes(serialization.Encoding.PEM))
        issued.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return issued

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key_file)
        context.set_alpn_protocols(["http/1.1"])
        return context


def _signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Sidestep lab")])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in _HOSTS]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
