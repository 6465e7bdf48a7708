"""`sidestep chat --jsonl` as a script meets it: lines to write, and what comes back, checked against the contract."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from storage.models import Action, Status
from tests.acceptance.program import Finished, Program, run, started

CUSTOMER, OWNER, ADMIN = "+5511988880001", "+5511999990000", "+5511999990001"

CONFIG = """\
tenants:
  - instance_name: shop
    owner: "+5511999990000"
    admins: ["+5511999990001"]
    auto_resume_after: 2h
flows:
  keywords:
    - {match: [price, how much], answer: "From 10 to 50."}
    - {match: [hours, open], answer: "From 7 to 19."}
  default: "Somebody will answer you soon."
"""

PRICES, HOURS, DEFAULT = "From 10 to 50.", "From 7 to 19.", "Somebody will answer you soon."

Line = dict[str, Any] | bytes
IDLE: Line = {"wait": "idle"}


def customer(text: str, **more: object) -> Line:
    return {"from": "customer", "text": text, **more}


def owner(text: str, **more: object) -> Line:
    return {"from": "owner", "text": text, **more}


def admin(text: str, **more: object) -> Line:
    return {"from": "admin", "text": text, **more}


def advance(duration: str) -> Line:
    return {"advance": duration}


Text = Annotated[str, StringConstraints(min_length=1)]
# A phone number as people write it, or a group's id.
Chat = Annotated[str, StringConstraints(pattern=r"^(\+[0-9]{5,15}|[0-9-]{5,40})$")]


class _Output(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Reply(_Output):
    kind: Literal["reply"]
    chat: Chat
    to: Chat
    id: Text
    in_reply_to: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    text: Text


class Notice(_Output):
    kind: Literal["notice"]
    to: Literal["owner"] | Chat
    id: Text
    text: Text


class Decision(_Output):
    kind: Literal["decision"]
    id: Text
    chat: Chat
    action: Annotated[Action, Field(strict=False)]


class Revoke(_Output):
    kind: Literal["revoke"]
    chat: Chat
    id: Text


class StatusLine(_Output):
    kind: Literal["status"]
    id: Text
    status: Annotated[Status, Field(strict=False)]


class Error(_Output):
    kind: Literal["error"]
    line: Annotated[int, Field(ge=1)]
    error: Text


Output = Reply | Notice | Decision | Revoke | StatusLine | Error
_OUTPUT: TypeAdapter[Output] = TypeAdapter(Annotated[Output, Field(discriminator="kind")])


def read_output(line: str) -> Output:
    """One line of the results; raises where it is not what the contract says."""
    return _OUTPUT.validate_python(json.loads(line))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """All that came back, in order."""

    outputs: tuple[Output, ...]
    code: int
    err: str

    @property
    def replies(self) -> list[Reply]:
        return [o for o in self.outputs if isinstance(o, Reply)]

    @property
    def notices(self) -> list[str]:
        return [o.text for o in self.outputs if isinstance(o, Notice)]

    @property
    def revoked(self) -> list[str]:
        """The ids of the messages that were taken back."""
        return [o.id for o in self.outputs if isinstance(o, Revoke)]

    @property
    def errors(self) -> dict[int, str]:
        return {o.line: o.error for o in self.outputs if isinstance(o, Error)}

    def said_to(self, chat: str = CUSTOMER) -> list[str]:
        """What the bot said in one chat."""
        return [r.text for r in self.replies if r.chat == chat]

    def decided(self, message_id: str) -> list[Action]:
        """Every decision about the messages with this id."""
        return [o.action for o in self.outputs if isinstance(o, Decision) and o.id == message_id]

    def statuses(self, reply_id: str) -> list[Status]:
        return [o.status for o in self.outputs if isinstance(o, StatusLine) and o.id == reply_id]


def read_transcript(finished: Finished) -> Transcript:
    """The results of a run that is over."""
    outputs = tuple(map(read_output, finished.out.splitlines()))
    return Transcript(outputs=outputs, code=finished.code, err=finished.err)


class Conversation:
    """A chat under way: what is written next may depend on what has come back."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def say(self, *lines: Line) -> None:
        self._program.write(encode(lines))

    def signal(self, number: Signals) -> None:
        self._program.signal(number)

    async def next(self) -> Output:
        return read_output(await self._program.read_line())

    async def reply(self, part: str = "") -> Reply:
        """The next reply that holds this; whatever comes before is kept, too."""
        while not (isinstance(output := await self.next(), Reply) and part in output.text):
            pass
        return output

    async def notice(self, part: str = "") -> Notice:
        """The next notice that holds this; whatever comes before is kept, too."""
        while not (isinstance(output := await self.next(), Notice) and part in output.text):
            pass
        return output

    async def ended(self) -> Transcript:
        """End the input; everything from the beginning on."""
        self._program.end_input()
        return read_transcript(await self._program.finished())


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A folder with a configuration, and a database for it."""

    folder: Path
    dsn: str

    def configure(self, text: str = CONFIG) -> None:
        (self.folder / "config.yaml").write_text(text, encoding="utf-8")

    async def run(self, *arguments: str | Path, stdin: bytes = b"", **variables: str) -> Finished:
        """One whole run in this folder."""
        return await run(*arguments, cwd=self.folder, stdin=stdin, variables=variables)

    async def chat(self, *lines: Line, options: Sequence[str | Path] = ()) -> Transcript:
        """One chat from the first line to the last; nothing may be said outside the results."""
        finished = await self.run(*self._chat_command, *options, stdin=encode(lines))
        assert finished.err == ""
        transcript = read_transcript(finished)
        assert transcript.code == (1 if transcript.errors else 0)
        return transcript

    async def why(self, message_id: str, *options: str) -> list[str]:
        """What `sidestep why` says of a message, line by line."""
        finished = await self.run("why", message_id, *options, DATABASE_URL=self.dsn)
        assert finished.code == 0, finished.err
        return finished.out.splitlines()

    @asynccontextmanager
    async def conversation(self, **variables: str) -> AsyncIterator[Conversation]:
        async with started(*self._chat_command, cwd=self.folder, variables=variables) as program:
            yield Conversation(program)

    @property
    def _chat_command(self) -> tuple[str, ...]:
        return ("chat", "--jsonl", "--database", self.dsn)


def encode(lines: Sequence[Line]) -> bytes:
    """Lines as they are written; bytes stay as they are."""
    return b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )
