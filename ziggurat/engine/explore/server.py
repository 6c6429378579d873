"""The page's server: for this machine alone, and for its own page alone."""

import json
import secrets
import sys
import traceback
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from backbones.errors import UserError, one_line
from ziggurat.engine.cli import fault_of_machine, find_user_error
from ziggurat.engine.explore.pictures import UPLOAD
from ziggurat.engine.explore.session import Session

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # hosts by which a browser may ask; any other may be a foreign page's name for this machine
REQUEST = 64 * 2**10  # bytes of a request of JSON at most
MOST_DIGITS = 18  # of a length
HERE = Path(__file__).parent
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {f"/{path.name}": path for path in HERE.iterdir() if path.suffix in TYPES}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Refused(UserError):
    """A request that is not answered, with its status."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Server(ThreadingHTTPServer):
    """Serves the page on a port of this machine; 0 is any free one.

    Attributes:
        session: answers the page.
        token: a secret that the page knows and sends with each request, and pages of others do not.

    Raises:
        OSError: the port is taken, or needs more rights.
    """

    daemon_threads = True
    request_queue_size = 128  # a page asks for many pictures at once

    def __init__(self, session: Session, port: int = 0):
        self.session, self.token = session, secrets.token_urlsafe(24)
        super().__init__((HOST, port), Handler)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):  # the browser has gone
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ziggurat", ""
    timeout = 60  # seconds that a browser may stay silent

    def do_GET(self) -> None:
        self.answer(self.page)

    def do_POST(self) -> None:
        self.answer(self.called)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what the base class refuses, by one line of JSON in place of its page."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self.answer(self.refuse_method)
            return
        self.close_connection = True
        self.send_json({"error": message or HTTPStatus(code).phrase}, code)

    def refuse_method(self) -> None:
        raise Refused(405, f"the method is {self.command}; allowed: GET, POST")

    def answer(self, make: Callable[[], None]) -> None:
        """Answers a request. An error is one line of JSON."""
        try:
            self.check_host()
            make()
        except Refused as error:
            self.close_connection = True  # its body may not be read
            allowed = {"Allow": "GET, POST"} if error.status == HTTPStatus.METHOD_NOT_ALLOWED else None
            self.send_json({"error": str(error)}, error.status, allowed)
        except (ConnectionError, TimeoutError):  # the browser has gone, or takes no more
            raise
        except Exception as error:
            message = find_user_error(error) or fault_of_machine(error)
            if message is None:
                traceback.print_exc()
                message = f"a fault of this program, of which the console says more: {one_line(error)}"
            self.send_json({"error": message}, 400 if isinstance(error, UserError) else 500)

    def page(self) -> None:
        path = self.asked_path()
        file = FILES.get("/page.html" if path == "/" else path)
        if file is None:
            raise Refused(404, f"there is nothing at {path}; allowed: /")
        content = file.read_bytes().replace(b"{{ token }}", self.server.token.encode())
        self.send(content, f"{TYPES[file.suffix]}; charset=utf-8")

    def called(self) -> None:
        """A request of the page."""
        self.check_sender()
        session, path = self.server.session, self.asked_path()
        if path == "/images":
            name = unquote(self.headers.get("X-Name", "image"))
            self.send_json(session.add_image(name, self.body(UPLOAD)))
        elif path == "/choices":
            self.body(REQUEST)
            self.send_json(session.choices())
        elif path == "/facts":
            self.send_json(session.facts(self.asked()))
        elif path in ("/picture", "/thumbnail"):
            drawn = getattr(session, path[1:])(self.asked())
            values = {"X-Range": "{:.4g} {:.4g}".format(*drawn.values)} if drawn.values else {}
            self.send(drawn.content, "image/png", {"X-Name": quote(drawn.name), **values})
        else:
            raise Refused(404, f"there is nothing at {path}")

    def check_host(self) -> None:
        """Refuses a browser that knows this machine by another name: a foreign page may have given that name."""
        given = self.headers.get("Host", "")
        try:
            host = urlsplit(f"//{given}").hostname
        except ValueError:  # as of "["
            host = None
        if host not in NAMES:
            raise Refused(403, f"the host is {given!r}; allowed: {', '.join(NAMES)}")

    def check_sender(self) -> None:
        """Refuses any page but the server's own."""
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            raise Refused(403, f"the origin is {origin!r}; allowed: this page")
        if not secrets.compare_digest(self.headers.get("X-Token", "").encode(), self.server.token.encode()):
            raise Refused(403, "the page is of an earlier start; reload it")

    def asked_path(self) -> str:
        try:
            return urlsplit(self.path).path
        except ValueError:
            raise Refused(400, f"the address is {self.path!r}; allowed: a path") from None

    def body(self, most: int) -> bytes:
        """The request's content, up to ``most`` bytes."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(411, "the request does not say its length")
        if len(length) > MOST_DIGITS or int(length) > most:
            seen = length if len(length) <= MOST_DIGITS else f"a number of {len(length)} digits of"
            raise Refused(413, f"the request has {seen} bytes; allowed: up to {most}")
        try:
            content = self.rfile.read(int(length))
        except TimeoutError:
            raise Refused(400, f"the upload was cut off: nothing came for {self.timeout} seconds") from None
        if len(content) < int(length):
            raise Refused(400, f"the upload was cut off: {len(content)} of {length} bytes came")
        return content

    def asked(self) -> dict[str, Any]:
        content = self.body(REQUEST)
        try:
            asked = json.loads(content)
        except (ValueError, RecursionError):
            raise UserError("the request is no JSON") from None
        if not isinstance(asked, dict):
            raise UserError("the request is no object of JSON")
        return asked

    def send_json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(json.dumps(content).encode(), "application/json", headers, status)

    def send(self, content: bytes, kind: str, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in (HEADERS | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Says nothing: errors are in the page."""
