"""Files of the lab: what is uploaded comes back, what was changed does not."""

import pytest

from bot.lab.errors import ProtocolError
from bot.lab.media import MediaKind, MediaStore, seal, unseal

KINDS: tuple[MediaKind, ...] = ("image", "video", "audio", "document", "sticker")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 16, 70_000])
def test_a_file_comes_back_as_it_was(kind: MediaKind, size: int) -> None:
    store, plain = MediaStore(), b"x" * size
    attachment = store.upload(kind, plain)
    assert attachment.plain_bytes == size
    assert store.download(kind, attachment) == plain


def test_only_the_ciphertext_is_stored() -> None:
    store = MediaStore()
    attachment = store.upload("image", b"a face" * 100)
    stored = store.get(attachment.path)
    assert stored is not None
    assert b"a face" not in stored


def test_each_kind_has_keys_of_its_own() -> None:
    sealed = seal("image", bytes(32), b"data")
    with pytest.raises(ProtocolError, match="MAC"):
        unseal("video", bytes(32), sealed)


def test_a_changed_file_is_noticed() -> None:
    store = MediaStore()
    attachment = store.upload("document", b"invoice")
    path = attachment.path.partition("?")[0]
    sealed = store.get(path) or b""
    store.put(path, sealed[:-11] + bytes([sealed[-11] ^ 1]) + sealed[-10:])
    with pytest.raises(ProtocolError, match="MAC"):
        store.download("document", attachment)


def test_a_file_that_nobody_uploaded_is_named_so() -> None:
    attachment = MediaStore().upload("image", b"x")
    with pytest.raises(ProtocolError, match="never uploaded"):
        MediaStore().download("image", attachment)
