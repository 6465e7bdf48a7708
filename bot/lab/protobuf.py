"""The one door to neonize's message types: whoever enters has prepared the process first; nothing else here."""

from bot.lab.trust import prepare

# neonize loads its library with its first import, whatever is imported of it.
prepare()

from neonize.proto.waAdv.WAAdv_pb2 import (  # noqa: E402 - only after prepare()
    ADVDeviceIdentity,
    ADVSignedDeviceIdentity,
    ADVSignedDeviceIdentityHMAC,
)
from neonize.proto.waCert.WACert_pb2 import CertChain  # noqa: E402
from neonize.proto.waCommon.WACommon_pb2 import MessageKey  # noqa: E402
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import (  # noqa: E402
    AudioMessage,
    ContextInfo,
    DeviceSentMessage,
    DocumentMessage,
    ExtendedTextMessage,
    ImageMessage,
    Message,
    ProtocolMessage,
    ReactionMessage,
    StickerMessage,
    VideoMessage,
)
from neonize.proto.waWa6.WAWebProtobufsWa6_pb2 import ClientPayload, HandshakeMessage  # noqa: E402

__all__ = [
    "ADVDeviceIdentity",
    "ADVSignedDeviceIdentity",
    "ADVSignedDeviceIdentityHMAC",
    "AudioMessage",
    "CertChain",
    "ClientPayload",
    "ContextInfo",
    "DeviceSentMessage",
    "DocumentMessage",
    "ExtendedTextMessage",
    "HandshakeMessage",
    "ImageMessage",
    "Message",
    "MessageKey",
    "ProtocolMessage",
    "ReactionMessage",
    "StickerMessage",
    "VideoMessage",
]
