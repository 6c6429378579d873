"""A page in Chromium, driven by its DevTools protocol over a WebSocket, without a package for it."""

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import urllib.request
from contextlib import contextmanager

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 30  # that the browser may take for anything


class Socket:
    """The part of RFC 6455 that the protocol needs: texts, of any length, from a server that sends whole messages."""

    def __init__(self, port, path):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.connection.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.file = self.connection.makefile("rb")
        while self.file.readline().strip():
            pass

    def send(self, text):
        content, mask = text.encode(), os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(content))
        self.connection.sendall(b"\x81" + struct.pack("!BQ", 0x80 | 127, len(content)) + mask + masked)

    def receive(self):
        length = self.file.read(2)[1]
        if length >= 126:
            size, form = (2, "!H") if length == 126 else (8, "!Q")
            (length,) = struct.unpack(form, self.file.read(size))
        return self.file.read(length).decode()


class Tab:
    """One page.

    Attributes:
        problems: errors of scripts, and what the console says of errors.
    """

    def __init__(self, port, path):
        self.socket, self.number, self.problems = Socket(port, path), 0, []
        for domain in ("Runtime", "Page", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.receive())
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.problems.append(message["params"])
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    def run(self, script):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script):
        """Waits until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.run(script):
            assert time.monotonic() < end, (script, self.run("document.body.innerText"), self.problems)
            time.sleep(0.05)

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)


@contextmanager
def opened(address, folder, width=1400, height=1000):
    """A tab that shows an address. ``folder`` gets the browser's files."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    options += ["--no-first-run", "--disable-extensions", f"--window-size={width},{height}", address]
    browser = subprocess.Popen([CHROMIUM, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        place, end = folder / "DevToolsActivePort", time.monotonic() + SECONDS
        while not (place.is_file() and place.read_text().count("\n")):
            assert browser.poll() is None and time.monotonic() < end, "the browser does not start"
            time.sleep(0.05)
        port = int(place.read_text().split("\n")[0])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=SECONDS) as answer:
            (page,) = [target for target in json.load(answer) if target["type"] == "page"]
        yield Tab(port, page["webSocketDebuggerUrl"].split(str(port))[1])
    finally:
        browser.terminate()
        browser.wait(SECONDS)
