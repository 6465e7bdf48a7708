"""Runs neonize's blocking Go calls on daemon threads of our own; knows nothing of what they do.

neonize would use asyncio's default executor. `Neonize()` parks one of its threads for the client's whole life,
so that with 2 cores the sixth client makes every later call of the process hang; and its threads are
joined at exit, so that a call which never returns (a QR nobody scans) keeps the process alive.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from bot.transports.base import NotConnected
from bot.transports.whatsapp.gate import Gate, Pass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]

    def run(self) -> tuple[Any, Exception | None]:
        try:
            return self.function(*self.arguments), None
        except Exception as exc:  # noqa: BLE001 - whatever it is belongs to the caller, who gets it
            return None, exc

    def answer(self, result: Any, error: Exception | None) -> None:
        # The loop may be closed meanwhile: nobody waits any more.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.settle, result, error)

    def settle(self, result: Any, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class DaemonThreads:
    """At most `limit` daemon threads that take calls in order; they are started when needed."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads = 0
        self._outstanding = 0
        self._counting = threading.Lock()

    @property
    def outstanding(self) -> int:
        """How many calls have been handed over and have not returned, cancelled ones included."""
        return self._outstanding

    def call(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Hands the call over now, before this returns; the future brings its result to the running loop.

        Cancelling the future does not stop the call.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._counting:
            self._outstanding += 1
            if self._threads < min(self._limit, self._outstanding):
                self._threads += 1
                name = f"{self._name}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        self._calls.put(_Call(function=function, arguments=arguments, loop=loop, future=future))
        return future

    def close(self) -> None:
        """Refuses the calls that no thread has taken yet and lets the threads end; a running call goes on."""
        while True:
            try:
                call = self._calls.get_nowait()
            except Empty:
                break
            if call is not None:
                self._count_down()
                call.settle(None, NotConnected("the client has been stopped"))
        self.finish()

    def finish(self) -> None:
        """Lets the threads end after the calls they have been given."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            outcome = call.run()
            # Before the answer: who gets it may ask at once whether anything is on its way.
            self._count_down()
            call.answer(*outcome)

    def _count_down(self) -> None:
        with self._counting:
            self._outstanding -= 1


# Of the process, as Go's maps are.
gate = Gate()
# A start is in the maps until the client's first word, at most: then it is known to Go. Where the database or the
# network takes longer, the others do not wait for it.
_START_SECONDS = 3.0
_FILES = ("Upload", "DownloadAny")


def disconnect_client(go: Any, uuid: bytes) -> None:
    with gate.looking():
        go.Disconnect(uuid)


class GoCalls:
    """Stands in for neonize's own way to call Go: the same names, each call on its proper thread.

    Sends have one thread: they keep their order and never wait behind anything else. Files have their own,
    because each may take minutes.
    """

    def __init__(self, go: Any, name: str) -> None:
        self._go = go
        self._life = DaemonThreads(f"{name}-life", 1)
        self._sends = DaemonThreads(f"{name}-send", 1)
        self._files = DaemonThreads(f"{name}-file", 2)
        self._others = DaemonThreads(f"{name}-call", 4)
        self._lived: asyncio.Future[Any] | None = None
        self._entered: Pass | None = None
        # Not while Go may still come to look the client up by itself: it aborts the process where that is gone by then.
        self._settled = threading.Event()
        self._settled.set()
        self._is_retired = False

    @property
    def sending(self) -> bool:
        """Whether a send has not returned yet, also one whose caller has been cancelled."""
        return self._sends.outstanding > 0

    @property
    def outstanding(self) -> int:
        """Calls that are still in Go, but for files and for the one that lasts the client's life."""
        return self._sends.outstanding + self._others.outstanding

    async def ready_to_send(self) -> None:
        """Comes back when no send is on its way any more, and no other client is starting or stopping."""
        if self.sending:
            await self._sends.call(lambda: None)
        if not gate.is_open:
            if self._is_retired:
                raise NotConnected("the client has been stopped")
            await self._others.call(gate.wait)

    def started(self) -> None:
        """The client has said a word, by which it must have been looked up. From any thread."""
        if self._entered is not None:
            gate.leave(self._entered)
        self._settled.set()

    def after_qr(self, *, is_linked: bool) -> None:
        """On Go's thread, when the QR codes are over: Go looks the client up as soon as this returns.

        It does not return where the client has been stopped, for which Go would abort the process, nor where it will
        never be linked, for which Go would look ten times a second for ever.
        """
        if is_linked:
            self._settled.clear()
            self._entered = gate.look()
            if not self._is_retired:
                return
        self.started()
        threading.Event().wait()

    def retire(self) -> None:
        """No more calls; what is running goes on, and nobody waits for the end of the client's life."""
        self._is_retired = True
        for threads in (self._life, self._sends, self._files, self._others):
            threads.close()
        # During the QR phase Go's call never returns. Cancelled, neonize would stop the client on the
        # loop's own thread, which can take as long as WhatsApp does not answer.
        if self._lived is not None and not self._lived.done():
            self._lived.set_result(b"")

    def stop(self, uuid: bytes) -> None:
        """Takes a retired client out of Go. Blocks, for as long as it or another one is starting."""
        while True:
            self._settled.wait()
            with gate.changing():
                if self._settled.is_set():
                    self._go.Stop(uuid)
                    return

    def __getattr__(self, name: str) -> Callable[..., asyncio.Future[Any]]:
        if name == "Neonize":
            return self._start_life
        function = getattr(self._go, name)
        if name == "SendMessage":
            return partial(self._send, function)
        return partial(self._call, self._files if name in _FILES else self._others, function)

    def _call(
        self, threads: DaemonThreads, function: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        def through_the_gate() -> Any:
            with gate.looking():
                return function(*arguments)

        return threads.call(through_the_gate)

    def _send(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        # A send begins now or not at all: one that waited could begin after the human has spoken.
        if (mine := gate.look_now()) is None:
            raise NotConnected("another number is just being connected or disconnected")

        def through_the_gate() -> Any:
            try:
                return function(*arguments)
            finally:
                gate.leave(mine)

        return self._sends.call(through_the_gate)

    def _start_life(self, *arguments: Any) -> asyncio.Future[Any]:
        self._lived = self._life.call(self._live, *arguments)
        return self._lived

    def _live(self, *arguments: Any) -> Any:
        self._entered = gate.change(at_most=_START_SECONDS)
        try:
            if self._is_retired:
                return b""  # stopped while it waited for the others
            self._settled.clear()
            return self._go.Neonize(*arguments)
        finally:
            self.started()
