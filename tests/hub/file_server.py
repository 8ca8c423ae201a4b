"""A web server on this machine that behaves as badly as a test wants."""
from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

# A certificate that signs itself, for 127.0.0.1, and its key. Nothing but these tests trusts it.
CERTIFICATE = Path(__file__).with_name("server_for_tests.pem")
PAGE = b"<!DOCTYPE html><html><body>Quota exceeded</body></html>"


class FileServer:
    """Serves ``content``; ``script`` says how each request goes, beyond its end all go well.

    Words of the script: ``cut N`` (the connection breaks off after N bytes),
    ``ignore range``, ``too long`` and ``too short`` (of the announced length),
    ``status N``, ``redirect`` (``redirect to URL``), ``html`` and ``disguised html``, ``endless``, and ``header VALUE``
    (a Content-Length).
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.content, self.version, self.script, self.requests = b"", '"one"', [], []
        self.url = f"https://{address[0]}:{address[1]}/weights.pth"


@contextlib.contextmanager
def serving() -> Iterator[FileServer]:
    """Run a server for the block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_) -> None:
            pass

        def do_GET(self) -> None:
            state.requests.append((self.path, dict(self.headers)))
            word, _, number = (state.script.pop(0) if state.script else "good").partition(" ")
            self.close_connection = True
            if word == "status":
                self.answer(int(number), b"no", {})
                return
            if number.startswith("to "):
                self.answer(302, b"", {"Location": number.removeprefix("to ")})
                return
            if word == "redirect":
                self.answer(302, b"", {"Location": f"/moved/{len(state.requests)}"})
                return
            if word in ("html", "disguised"):
                kind = "text/html; charset=utf-8" if word == "html" else "application/octet-stream"
                self.answer(200, PAGE, {"Content-Type": kind})
                return
            if word == "endless":
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:
                        self.wfile.write(b"\x80" * 65536)
                return
            body, status, more = state.content, 200, {"ETag": state.version} if state.version else {}
            start = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
            if start and word != "ignore" and self.headers.get("If-Range") in (None, state.version):
                if int(start) >= len(body):
                    self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                    return
                more["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                body, status = body[int(start):], 206
            announced = len(body) + {"long": 100, "short": -100}.get(number if word == "too" else "", 0)
            sent = body[:int(number)] if word == "cut" else body[:announced]
            self.answer(status, sent, more, number if word == "header" else announced)

        def answer(self, status: int, body: bytes, headers: dict[str, str], announced: int | str | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Type": "application/octet-stream", **headers}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body) if announced is None else announced))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    state = FileServer(server.server_address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
