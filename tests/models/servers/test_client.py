"""What a server is given of time and room, with servers that take more."""

import contextlib
import gzip
import math
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest

from llmsmc.errors import InputError, ServerError
from llmsmc.models.servers import client
from llmsmc.models.servers.client import Client
from llmsmc.models.servers.probe import probe
from tests.models.servers.raw_servers import Script, http, of_json, raw_server, saying

MIB = 2**20
SLACK = 1.5  # seconds that a busy machine may take longer


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_backoff", lambda state: 0.02)


Ask = Callable[..., tuple[Any, int]]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Return a function that asks a server once: what is read, or the error; how often."""

    def asked(script: Script, **limits: Any) -> tuple[Any, int]:
        with raw_server(script) as (address, requests):
            asking = Client(address, **{"timeout": 5.0, "retry_for": 0.0} | limits)
            try:
                return asking.run(asking.post("/x", {}, lambda answer: answer)), len(requests)
            except ServerError as error:
                return error, len(requests)
            finally:
                asking.close()

    yield asked


def drip(head: bytes, piece: bytes, seconds: float = 0.05) -> Script:
    """Send the head, and then a piece after the other, with pauses."""

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(head)
        for _ in range(400):
            connection.sendall(piece)
            time.sleep(seconds)

    return script


def silence(connection: socket.socket, request: bytes) -> None:
    time.sleep(20)


ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "script",
    [
        silence,
        drip(b"", b"H"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        drip(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        drip(ENDLESS, b"1\r\n \r\n"),
        drip(b"HTTP/1.1 503 Busy\r\nContent-Length: 9999\r\n\r\n", b" "),
        drip(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 999\r\n\r\n", b"\x1f"),
    ],
)
def test_an_answer_has_its_time_to_the_last_byte(script: Script, ask: Ask) -> None:
    begun = time.monotonic()
    error, _ = ask(script, timeout=0.3)
    assert time.monotonic() - begun < 0.3 + SLACK
    assert isinstance(error, ServerError)


def test_an_answer_in_pieces_within_its_time_is_one(ask: Ask) -> None:
    def slow(connection: socket.socket, request: bytes) -> None:
        for byte in http(b'{"a": 1}'):
            connection.sendall(bytes([byte]))
            time.sleep(0.002)

    assert ask(slow) == ({"a": 1}, 1)


def test_tries_end_together(ask: Ask) -> None:
    begun = time.monotonic()
    error, tries = ask(silence, timeout=0.25, retry_for=0.6)
    assert 0.5 < time.monotonic() - begun < 0.6 + SLACK
    assert error.is_down and 2 <= tries <= 3
    assert f" s; it was asked {tries} times in 0.6" in str(error)


def test_the_first_try_has_its_whole_time(ask: Ask) -> None:
    def late(connection: socket.socket, request: bytes) -> None:
        time.sleep(0.3)
        connection.sendall(http(b"1"))

    assert ask(late, timeout=5.0, retry_for=0.1) == (1, 1)


@pytest.mark.parametrize("status", ["429 Too Many", "503 Busy", "500 Oops"])
@pytest.mark.parametrize(
    "wait", ["100000", "1e400", "inf", "Wed, 21 Oct 2099 07:28:00 GMT", "9" * 400]
)
def test_who_wants_to_be_left_alone_for_too_long_is_not_asked_again(
    wait: str, status: str, ask: Ask
) -> None:
    begun = time.monotonic()
    error, tries = ask(of_json({}, f"Retry-After: {wait}", status=status), retry_for=600.0)
    assert time.monotonic() - begun < SLACK and tries == 1 and error.is_down


@pytest.mark.parametrize(
    "wait",
    ["nan", "soon", "-5", "0", "", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Oct 2099", "0x10"],
)
def test_a_wait_that_is_none_is_that_of_the_backoff(wait: str, ask: Ask) -> None:
    _, tries = ask(of_json({}, f"Retry-After: {wait}", status="503 Busy"), retry_for=0.2)
    assert tries > 2


def packed(content: bytes, packing: str) -> bytes:
    return gzip.compress(content) if packing == "gzip" else zlib.compress(content)


@pytest.mark.parametrize("packing", ["gzip", "deflate", "GZIP", "x-gzip", "identity"])
def test_packed_answers_are_read(packing: str, ask: Ask) -> None:
    kind = "gzip" if "gzip" in packing.lower() else packing
    content = b"[1]" if kind == "identity" else packed(b"[1]", kind)
    answer, _ = ask(saying(http(content, f"Content-Encoding: {packing}")))
    assert answer == [1]


@cache
def bomb(packing: str, size: int) -> bytes:
    pack = zlib.compressobj(1, wbits=31 if packing == "gzip" else 15)
    return b"".join(pack.compress(bytes(MIB)) for _ in range(size // MIB)) + pack.flush()


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
@pytest.mark.parametrize("status", ["200 OK", "400 Bad"])
def test_an_answer_has_a_size_when_it_is_unpacked(
    packing: str, status: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is unpacked no further than one byte beyond that."""
    taken: list[int] = []

    class Counting:
        def __init__(self, wbits: int) -> None:
            self.inner = real(wbits)
            self.eof = False

        def decompress(self, piece: bytes, room: int) -> bytes:
            taken.append(len(content := self.inner.decompress(piece, room)))
            return content

    sent = http(bomb(packing, 50 * MIB), f"Content-Encoding: {packing}", status=status)
    assert len(sent) < MIB
    real = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    error, _ = ask(saying(sent), max_answer_bytes=MIB)
    assert "larger than 1048576 bytes" in str(error) and not error.is_down
    assert sum(taken) == MIB + 1


@pytest.mark.parametrize(
    "script",
    [
        saying(http(b"[" + b" " * MIB + b"]")),
        drip(ENDLESS, b"10000\r\n" + b" " * 65536 + b"\r\n", 0.0),
        saying(http(b'{"error": "' + b"x" * MIB + b'"}', status="400 Bad")),
        saying(http(packed(bytes(64) * 1000, "gzip") * 2000, "Content-Encoding: gzip")),
    ],
)
def test_an_answer_has_a_size_as_it_is_sent(script: Script, ask: Ask) -> None:
    error, _ = ask(script, max_answer_bytes=100_000)
    assert "larger than 100000 bytes" in str(error) and not error.is_down


@pytest.mark.parametrize("packing", ["br", "zstd", "compress", "gzip, gzip", "nothing", "\x1b[2J"])
def test_other_packings_are_refused(packing: str, ask: Ask) -> None:
    error, _ = ask(saying(http(b"[1]", f"Content-Encoding: {packing}")))
    assert isinstance(error, ServerError) and str(error).isprintable()


PACKED = gzip.compress(b"[1]", mtime=0)


@pytest.mark.parametrize(
    "content", [b"[1]", PACKED[:-9], PACKED[:5] + b"\xff" * 20], ids=["plain", "cut", "broken"]
)
def test_what_cannot_be_unpacked_is_no_answer(content: bytes, ask: Ask) -> None:
    error, _ = ask(saying(http(content, "Content-Encoding: gzip")))
    assert "cannot be unpacked" in str(error)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x00\xff" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/1.1 999 What\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000,
        b"HTTP/1.1 200 OK\r\n\xff: \x00\r\n\r\n{}",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        http(b"", status="204 Nothing"),
        http(b"", "Location: http://127.0.0.1:9/", status="302 There"),
        http(b"", "Location: http://[", status="307 There"),
        http(b"", "Location: \xff", status="308 There"),
        http(b"{}", status="304 As Before"),
        *(
            http(content)
            for content in (
                b"",
                b"{",
                b"<html>",
                b"\xff\xfe{\x00}\x00",
                b"[" * 100_000,
                b'"\\ud800"',
                b"9" * 5000,
                b"{'a': 1}",
                b"\xef\xbb\xbf{}",
                b'{"a": 1} {}',
            )
        ),
    ],
)
def test_what_is_no_answer_is_an_error_of_ours(said: bytes, ask: Ask) -> None:
    error, _ = ask(saying(said))
    assert isinstance(error, ServerError) and str(error).isprintable()
    assert "127.0.0.1" in str(error) and len(str(error)) < 500


def test_a_server_that_is_not_there(ask: Ask) -> None:
    for address in ("http://127.0.0.1:1", "http://a..b", "http://[::1]:1", "https://127.0.0.1:1"):
        asking = Client(address, timeout=2.0)
        with pytest.raises(ServerError) as caught:
            asking.get("/version")
        assert address in str(caught.value)
        asking.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("timeout", "retry_for") for value in (-1, math.nan, math.inf)),
        *((name, value) for name in ("max_answer_bytes", "max_connections") for value in (-1, 0)),
        ("timeout", 0.0),
        ("timeout", True),
    ],
)
def test_limits_are_checked(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is a"):
        Client("http://127.0.0.1:1", **{name: value})


@pytest.mark.parametrize(
    "address",
    [
        "http://a\\b",
        "http://a\x00b",
        "http://a b",
        "http://a\x1b[2J",
        "http://a:99999",
        "http://\n",
    ],
)
def test_addresses_are_written_plainly(address: str) -> None:
    with pytest.raises(InputError, match="has an address"):
        Client(address)


@pytest.mark.parametrize("status", ["301 A", "302 B", "307 C", "308 D"])
def test_a_server_that_points_elsewhere_says_so_when_it_is_first_asked(status: str) -> None:
    with raw_server(
        saying(http(b"", "Location: https://elsewhere/v1", "Connection: close", status=status))
    ) as (url, _):
        client = Client(url)
        with pytest.raises(ServerError, match="it points to https://elsewhere/v1, which is not"):
            probe(client, None)
        with pytest.raises(ServerError) as caught:
            client.run(client.post("/x", {}, str))
        assert type(caught.value) is ServerError  # whose name stands in results
        assert caught.value.status == int(status[:3])
        client.close()


# Connections


@contextlib.contextmanager
def keeping(answer: Callable[[socket.socket, int], None]) -> Iterator[tuple[str, list[int]]]:
    """A server that keeps its connections; yields the numbers of requests on each of them."""
    listener = socket.create_server(("127.0.0.1", 0))
    counts: list[int] = []

    def serve(connection: socket.socket, place: int) -> None:
        with contextlib.suppress(OSError), connection:
            while piece := connection.recv(65536):
                if b"\r\n\r\n" in piece:  # small heads come in one
                    counts[place] += 1
                    answer(connection, counts[place])

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                counts.append(0)
                place = len(counts) - 1
                threading.Thread(target=serve, args=(connection, place), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", counts
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_connections_are_used_again_and_no_more_than_asked_for() -> None:
    """Also by several threads, which share them."""

    def answer(connection: socket.socket, number: int) -> None:
        time.sleep(0.02)
        connection.sendall(http(b"1"))

    with keeping(answer) as (url, counts), ThreadPoolExecutor(4) as threads:
        asking = Client(url, max_connections=3)
        found = threads.map(lambda _: asking.post_all("/x", [{}] * 8, [int] * 8), range(4))
        assert list(found) == [[1] * 8] * 4
        assert sum(counts) == 32 and len(counts) == 3 and min(counts) > 5
        asking.close()


def test_a_connection_that_is_used_again_has_its_time_too() -> None:
    dripping = drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")

    def answer(connection: socket.socket, number: int) -> None:
        if number == 2:
            dripping(connection, b"")
        connection.sendall(http(b"%d" % number))

    with keeping(answer) as (url, counts):
        asking = Client(url, timeout=0.4, retry_for=0)
        assert asking.get("/x") == 1
        begun = time.monotonic()
        with pytest.raises(ServerError, match=r"not answered within 0\.4 s"):
            asking.get("/x")
        assert time.monotonic() - begun < 0.4 + SLACK
        assert asking.get("/x") == 1 and counts == [2, 1]  # on another connection
        asking.close()
