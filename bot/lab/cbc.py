"""AES-256-CBC with PKCS#7 padding, which Signal messages and media files share; knows neither."""

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def encrypt(key: bytes, iv: bytes, plain: bytes) -> bytes:
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()


def decrypt(key: bytes, iv: bytes, sealed: bytes) -> bytes:
    """Raises ValueError when the padding is wrong: authenticate first."""
    unpadder = padding.PKCS7(128).unpadder()
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return unpadder.update(decryptor.update(sealed) + decryptor.finalize()) + unpadder.finalize()
