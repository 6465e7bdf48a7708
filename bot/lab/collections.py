"""Where the server keeps the app state of its accounts: numbered patches that it orders and cannot read."""

from dataclasses import dataclass, field
from typing import Any

from bot.lab import protobuf
from bot.lab.directory import Account
from bot.lab.errors import ProtocolError
from bot.lab.linked import LinkedDevice
from bot.lab.media import MediaStore
from bot.lab.nodes import SERVER, Node, Value


@dataclass(slots=True, eq=False)
class _Stored:
    """One collection of one account: its patches, and the latest record under each index."""

    patches: list[Any] = field(default_factory=list)
    records: dict[bytes, Any] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return len(self.patches)


class Collections:
    def __init__(self, media: MediaStore) -> None:
        self._media = media
        self._stored: dict[tuple[Account, str], _Stored] = {}

    def append(self, account: Account, name: str, patch: Any) -> None:
        """A device's next patch; the account's linked devices are told that there is one."""
        stored = self._of(account, name)
        if patch.version.version != stored.version + 1:
            raise ProtocolError(f"a patch of {name} that does not follow the last one")
        stored.patches.append(patch)
        for mutation in patch.mutations:
            stored.records[mutation.record.index.blob] = mutation.record
        for device in account.devices.values():
            if isinstance(device, LinkedDevice):
                device.deliver(_changed(name, stored.version), lasting=True)

    def answer(self, device: LinkedDevice, query: Node) -> tuple[Node, ...] | None:
        """What has changed since the version that the device has, or all of it as one snapshot.

        None to a device that wants to change something itself: here only phones do.
        """
        asked = query.child("sync").all("collection")
        if any(each.find("patch") for each in asked):
            return None
        return (Node("sync", {}, tuple(self._collection(device.account, each) for each in asked)),)

    def _collection(self, account: Account, asked: Node) -> Node:
        name, known = asked.text("name"), int(asked.text("version", "0"))
        stored = self._of(account, name)
        attrs: dict[str, Value] = {"name": name, "version": str(stored.version)}
        if asked.text("return_snapshot", "false") == "true" and stored.patches:
            return Node("collection", attrs, (Node("snapshot", {}, self._snapshot(stored)),))
        patches = tuple(Node("patch", {}, patch.SerializeToString()) for patch in stored.patches[known:])
        return Node("collection", attrs, (Node("patches", {}, patches),))

    def _snapshot(self, stored: _Stored) -> bytes:
        """Too big for a stanza in real life, so it is put where media are."""
        latest = stored.patches[-1]
        snapshot = protobuf.SyncdSnapshot(
            version=latest.version,
            records=stored.records.values(),
            mac=latest.snapshotMAC,
            keyID=latest.keyID,
        )
        blob = self._media.upload("app-state", snapshot.SerializeToString())
        reference: bytes = protobuf.ExternalBlobReference(
            mediaKey=blob.key,
            directPath=blob.path,
            fileSizeBytes=blob.plain_bytes,
            fileSHA256=blob.plain_sha256,
            fileEncSHA256=blob.sealed_sha256,
        ).SerializeToString()
        return reference

    def _of(self, account: Account, name: str) -> _Stored:
        return self._stored.setdefault((account, name), _Stored())


def _changed(name: str, version: int) -> Node:
    attrs: dict[str, Value] = {"from": SERVER, "type": "server_sync", "id": f"{name}-{version}", "t": "0"}
    return Node("notification", attrs, (Node("collection", {"name": name, "version": str(version)}),))
