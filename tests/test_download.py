"""A download is whole, checked and done once, and comes from an address that nobody on the way can change."""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request

import pytest
import torch

from backbones import UserError
from backbones.weights.download import CONSENT, CarefulRedirects, download
from backbones.weights.fetch import fetch

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Host(BaseHTTPRequestHandler):
    """``/slow...`` takes a second, ``/cut...`` ends too early, ``/to?URL`` redirects; any other path gives CONTENT."""

    def do_GET(self):
        self.server.requests.append(self.path)
        kind = self.path.split("?")[0].strip("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", self.path.split("?")[1])
            self.end_headers()
            return
        self.send_response(404 if kind == "gone" else 200)
        if not kind.startswith("unknown"):
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if kind.startswith("slow"):
            time.sleep(1)
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if kind.startswith("cut") else CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A local server, with consent to its plain http and an empty cache."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv(CONSENT, "1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        server.requests = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def left(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize("kind", ["whole", "unknown"])
def test_a_whole_file_is_kept(host, tmp_path, kind):
    download(f"{host.url}/{kind}", tmp_path / "a" / "w.pth", DIGEST[:8])
    assert (tmp_path / "a" / "w.pth").read_bytes() == CONTENT and left(tmp_path / "a") == ["w.pth"]


@pytest.mark.parametrize(
    ("kind", "digest", "words"),
    [
        ("cut", None, f"cut off after {len(CONTENT) // 2} of {len(CONTENT)} bytes"),
        ("cut", DIGEST[:8], "cut off after"),
        ("whole", "00000000", f"its SHA-256 begins {DIGEST[:8]}, not 00000000"),
        ("gone", None, "404"),
    ],
)
def test_what_is_not_whole_leaves_nothing(host, tmp_path, kind, digest, words):
    with pytest.raises(UserError, match=rf"cannot download {host.url}/{kind} \(.*{words}") as caught:
        download(f"{host.url}/{kind}", tmp_path / "a" / "w.pth", digest)
    assert "\n" not in str(caught.value) and left(tmp_path / "a") == []


def test_a_host_that_is_absent_is_one_line(host, tmp_path):
    host.server_close()
    with pytest.raises(UserError, match=r"cannot download http://127\.0\.0\.1:1/w\.pth \(.*refused"):
        download("http://127.0.0.1:1/w.pth", tmp_path / "w.pth")


def test_http_without_a_hash_needs_consent(host, monkeypatch):
    monkeypatch.delenv(CONSENT)
    with pytest.raises(
        UserError, match=rf"/whole\.pth, which anybody .*allowed: an https: address, .*{CONSENT}=1"
    ) as caught:
        fetch(f"{host.url}/whole.pth")
    assert "\n" not in str(caught.value) and not host.requests
    monkeypatch.setenv(CONSENT, "0")
    with pytest.raises(UserError, match=CONSENT):
        fetch(f"{host.url}/whole.pth")
    assert fetch(f"{host.url}/whole-{DIGEST[:8]}.pth").read_bytes() == CONTENT
    monkeypatch.setenv(CONSENT, "1")
    assert fetch(f"{host.url}/whole.pth").read_bytes() == CONTENT


def test_a_redirect_follows_the_same_rule(host, tmp_path, monkeypatch):
    download(f"{host.url}/to?{host.url}/whole", tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == CONTENT
    for target in ("file:///etc/hostname", "ftp://127.0.0.1/w.pth"):
        with pytest.raises(UserError, match=r"not allowed|allowed: addresses of https and http"):
            download(f"{host.url}/to?{target}", tmp_path / "other.pth")
    monkeypatch.delenv(CONSENT)
    for is_checked in (True, False):
        with pytest.raises(
            UserError, match=rf"https://a/w leads to http://b/w, .*allowed: an https: address, or {CONSENT}"
        ):
            CarefulRedirects(is_checked).redirect_request(Request("https://a/w"), None, 302, "", {}, "http://b/w")
        further = CarefulRedirects(is_checked).redirect_request(
            Request("https://a/w"), None, 302, "", {}, "https://b/w"
        )
        assert further.full_url == "https://b/w"


def test_of_several_processes_one_downloads(host, tmp_path):
    context = multiprocessing.get_context("fork")
    target = tmp_path / "w.pth"
    others = [context.Process(target=download, args=(f"{host.url}/slow", target)) for _ in range(3)]
    for process in others:
        process.start()
    for process in others:
        process.join()
    assert [process.exitcode for process in others] == [0, 0, 0]
    assert host.requests == ["/slow"] and target.read_bytes() == CONTENT


def test_the_lock_of_a_killed_process_stops_nobody(host, tmp_path):
    code = f"from backbones.weights.download import *; download('{host.url}/slow', Path({str(tmp_path / 'w.pth')!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, CONSENT: "1"})
    while not host.requests:
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [name for name in left(tmp_path) if name.endswith(".tmp")] and not (tmp_path / "w.pth").exists()
    download(f"{host.url}/whole", tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == CONTENT and left(tmp_path) == ["w.pth"]
