"""A real S3 server for as long as a context lasts: SeaweedFS, on loopback and in a folder of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

KEY, SECRET = "sidestep", "only-for-tests"
PROGRAM = Path(sys.executable).parent / "weed"

_START_SECONDS = 60.0
_TRIES = 5
_MEGABYTES = 64


@asynccontextmanager
async def s3_server(folder: Path) -> AsyncIterator[str]:
    """Its address. A bucket is made by the first file that comes for it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the server's wheel is for Linux")
    address, process = await _start(folder)
    try:
        yield address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _start(folder: Path) -> tuple[str, Process]:
    for attempt in range(_TRIES):
        data = folder / f"data{attempt}"
        data.mkdir(parents=True)
        # Somebody else may take one of them before the server does: then it ends, and others are tried.
        ports = _free_ports(8)
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM), *_arguments(data, ports), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
        )
        if await _is_up(process, ports[0]):
            return f"http://127.0.0.1:{ports[0]}", process
        if process.returncode is None:
            process.kill()
        await process.wait()
    raise AssertionError("the S3 server did not start")


def _arguments(data: Path, ports: list[int]) -> list[str]:
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    configuration = data.parent / f"{data.name}.json"
    configuration.write_text(json.dumps({"identities": [identity]}))
    names = ("s3", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc")
    # Written s3.port and s3.port.grpc.
    flags = [f"-{name.partition('.')[0]}.port" + name[name.find(".") :] * ("." in name) for name in names]
    return [
        "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={configuration}",
        *(f"{flag}={port}" for flag, port in zip(flags, ports, strict=True)),
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-master.telemetry=false", f"-master.volumeSizeLimitMB={_MEGABYTES}", "-volume.max=20",
    ]  # fmt: skip


async def _is_up(process: Process, port: int) -> bool:
    give_up_at = time.monotonic() + _START_SECONDS
    while process.returncode is None and time.monotonic() < give_up_at:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            if b" 200 " in answer:
                return True
        except OSError:
            pass
        await asyncio.sleep(0.05)
    return False


def _free_ports(number: int) -> list[int]:
    ports: list[int] = []
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
        ports.append(each.getsockname()[1])
    for each in sockets:
        with closing(each):
            pass
    return ports
