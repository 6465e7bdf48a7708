"""Keeps the platform's own event as JSON text, without what is large or secret; reads nothing out of it."""

from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict

# Media keys stay: without them the media could never be fetched again.
_SECRETS = frozenset(
    {
        "messageSecret",
        "botMessageSecret",
        "senderKeyDistributionMessage",
        "fastRatchetKeySenderKeyDistributionMessage",
    }
)
_LARGEST_BYTES = 4096


def raw_json(event: Any) -> str:
    """Compact, with the protocol's own field names; bytes are base64."""
    kept = type(event)()
    kept.CopyFrom(event)
    if "Raw" in kept.DESCRIPTOR.fields_by_name:
        # neonize sends the same content twice.
        kept.ClearField("Raw")
    _prune(kept)
    tree = MessageToDict(kept, preserving_proto_field_name=True)
    return orjson.dumps(_storable(tree)).decode()


def _prune(message: Any) -> None:
    for field, value in message.ListFields():
        if field.name in _SECRETS or _is_large(field, value):
            message.ClearField(field.name)
        elif field.type == field.TYPE_STRING:
            _mend(message, field.name, value)
        elif field.message_type is not None:
            for inner in value if _is_list(value) else (value,):
                if hasattr(inner, "ListFields"):
                    _prune(inner)


def _mend(message: Any, name: str, value: Any) -> None:
    """Protobuf gives bytes for a text that is not UTF-8, and JSON would quote them as Python does."""
    if isinstance(value, bytes):
        setattr(message, name, value.decode(errors="replace"))
    elif not isinstance(value, str) and any(isinstance(text, bytes) for text in value):
        value[:] = [text.decode(errors="replace") if isinstance(text, bytes) else text for text in value]


def _is_large(field: Any, value: Any) -> bool:
    return field.type == field.TYPE_BYTES and isinstance(value, bytes) and len(value) > _LARGEST_BYTES


def _is_list(value: Any) -> bool:
    return not hasattr(value, "ListFields") and hasattr(value, "__iter__")


def _storable(tree: Any) -> Any:
    """Without NUL, which PostgreSQL refuses in JSON even when escaped."""
    if isinstance(tree, dict):
        return {str(name): _storable(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_storable(value) for value in tree]
    return tree.replace("\x00", "") if isinstance(tree, str) else tree
