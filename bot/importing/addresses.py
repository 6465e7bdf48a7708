"""Who is meant by a number, a name or a platform's own id: the address under which the store knows them; pure."""

from __future__ import annotations

import hashlib
import re

import phonenumbers

from bot.importing.stamps import INVISIBLE
from storage.imported import Conversation
from storage.models import GROUP_SERVER, LID_SERVER, PHONE_SERVER, Channel, Jid

LONGEST_ID = 200
"""Of a conversation, a participant or a message, in characters."""

NAME_SERVER = "name"
"""Of addresses of people who are known by nothing but a name, as the members of a group in an export."""

_NUMBER = re.compile(r"\+?[\d\s().\-/\u2010-\u2015]{6,32}")
_OLD_GROUP = re.compile(r"\d{5,20}-\d{5,20}")
# Numbers that people and WhatsApp write in two ways: what comes behind the country code in the longer one.
_MOBILE_SIGN = {"55": (4, "9", 13), "52": (2, "1", 13), "54": (2, "9", 13)}


def read_number(text: str, region: str | None) -> str | None:
    """The digits of a phone number in any format, country code first; None if it is none.

    `region`: the country that a number without its code is taken to be in.
    """
    plain = INVISIBLE.sub("", text).strip()
    if not _NUMBER.fullmatch(plain):
        return None
    try:
        number = phonenumbers.parse(plain, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")


def region_of(number: str) -> str | None:
    """The country of an E.164 number."""
    try:
        return phonenumbers.region_code_for_number(phonenumbers.parse(number))
    except phonenumbers.NumberParseException:
        return None


def variants(digits: str) -> list[str]:
    """The number, and where its country writes mobile numbers in two ways, the other one."""
    found = [digits]
    for code, (at, sign, longer) in _MOBILE_SIGN.items():
        if digits.startswith(code):
            if len(digits) == longer and digits[at : at + 1] == sign:
                found.append(digits[:at] + digits[at + 1 :])
            elif len(digits) == longer - 1:
                found.append(digits[:at] + sign + digits[at:])
    return found


def phone_jid(digits: str) -> Jid:
    return Jid(f"{digits}@{PHONE_SERVER}")


def named_jid(name: str, *scope: str) -> Jid:
    """The address of a person or a group who is known by a name only, within the scope that knows them so."""
    digest = hashlib.sha256("\0".join((*scope, name.casefold())).encode("utf-8", "replace")).hexdigest()
    return Jid(f"{digest[:24]}@{NAME_SERVER}")


def whatsapp_jid(text: str, region: str | None) -> Jid | None:
    """The address behind a number in any format, a JID, or a group's id; None if it is none of them."""
    user, at, server = text.strip().rpartition("@")
    user = user.partition(":")[0]
    if at:
        if server in (GROUP_SERVER, LID_SERVER, NAME_SERVER) and re.fullmatch(r"[\w-]{3,60}", user, re.ASCII):
            return Jid(f"{user}@{server}")
        text = user if server in (PHONE_SERVER, "c.us") else ""
        text = f"+{text}" if text.isdigit() else text
    if _OLD_GROUP.fullmatch(text.strip()):
        return Jid(f"{text.strip()}@{GROUP_SERVER}")
    digits = read_number(text, region)
    return None if digits is None else phone_jid(digits)


def conversation_of(
    channel: Channel,
    chat: str,
    *,
    participant: str | None = None,
    is_group: bool = False,
    name: str | None = None,
    region: str | None = None,
) -> Conversation:
    """The conversation that a platform calls `chat`. Raises ValueError with the reason."""
    if channel is Channel.WHATSAPP:
        jid = _whatsapp(chat, participant, is_group=is_group, region=region)
        group = jid.endswith(f"@{GROUP_SERVER}") or is_group
        return Conversation(
            channel=channel, jid=jid, participant=None if group else jid, name=name if group else None
        )
    if is_group:
        return Conversation(channel=channel, jid=Jid(chat), participant=None, name=name)
    return Conversation(
        channel=channel, jid=Jid(chat), participant=person_jid(channel, participant or chat, region)
    )


def person_jid(channel: Channel, who: str, region: str | None) -> Jid:
    """A person of any channel: by phone number if it is one, else by what the platform calls them."""
    if channel is Channel.WHATSAPP and (jid := whatsapp_jid(who, region)):
        return jid
    if digits := read_number(who, region):
        return phone_jid(digits)
    username = who.strip().removeprefix("@").casefold()
    if not username:
        raise ValueError("nobody is named")
    return Jid(f"{username}@{channel}")


def _whatsapp(chat: str, participant: str | None, *, is_group: bool, region: str | None) -> Jid:
    by_chat = whatsapp_jid(chat, region)
    if is_group:
        if by_chat is not None and by_chat.endswith((f"@{GROUP_SERVER}", f"@{NAME_SERVER}")):
            return by_chat
        return Jid(f"{chat}@{GROUP_SERVER}") if chat.isdigit() else named_jid(chat, "group")
    if by_chat is not None and not by_chat.endswith(f"@{PHONE_SERVER}"):
        return by_chat
    by_person = whatsapp_jid(participant, region) if participant else None
    jid = by_person or by_chat
    if jid is None:
        raise ValueError(
            "a conversation on WhatsApp needs the phone number of its participant, or a group's id"
        )
    return jid
