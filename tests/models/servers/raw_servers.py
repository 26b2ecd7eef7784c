"""Servers that write what they are told, byte by byte, and whatever that is."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

Script = Callable[[socket.socket, bytes], None]
"""Answers a request on its connection, which is closed behind it."""


def http(content: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + content


def saying(answer: bytes | Callable[[bytes], bytes]) -> Script:
    """A script that says one thing, or what it makes of the request."""
    return lambda connection, request: connection.sendall(
        answer if isinstance(answer, bytes) else answer(request)
    )


def of_json(value: Any, *headers: str, status: str = "200 OK") -> Script:
    return saying(http(json.dumps(value).encode(), *headers, status=status))


@contextlib.contextmanager
def raw_server(script: Script) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address and the requests so far."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []
    open_connections: list[socket.socket] = []

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError, IndexError), connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536) or exit_thread()
            head, _, body = request.partition(b"\r\n\r\n")
            size = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            while len(body) < int(size or 0):
                body += connection.recv(65536) or exit_thread()
            requests.append(head + b"\r\n\r\n" + body)
            script(connection, requests[-1])
            connection.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_connections.append(connection)
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", requests
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in open_connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def exit_thread() -> bytes:
    raise OSError("the connection is closed")
