"""Images at addresses: downloaded by option into a folder, each once, and called by their addresses in the results."""

import http.server
import io
import json
import threading

import numpy as np
import pytest
from helpers import run
from PIL import Image
from readers import checkpoint_of

from backbones import UserError
from backbones.weights.download import CONSENT
from ziggurat.engine.addresses import LARGEST, local

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 52, 3), dtype=np.uint8)


class Host(http.server.BaseHTTPRequestHandler):
    """Any path that ends in .png gives an image; other paths are not there."""

    def do_GET(self):
        self.server.requests.append(self.path)
        found = self.path.split("?")[0].endswith(".png")
        self.send_response(200 if found else 404)
        self.end_headers()
        if found:
            stream = io.BytesIO()
            Image.fromarray(PIXELS).save(stream, "PNG")
            self.wfile.write(stream.getvalue())

    def log_message(self, *args):
        pass


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setenv(CONSENT, "1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        server.requests = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_an_address_is_downloaded_once_under_a_name_of_its_own(host, tmp_path):
    addresses = [f"{host.url}/a/x.png", f"{host.url}/b/x.png", f"{host.url}/b/x.png?page=2"]
    found = local([*addresses, "photo.jpg"], tmp_path)
    assert len(set(found.paths)) == 4 and found.paths[-1] == "photo.jpg" and not found.problems
    assert list(found.addresses.values()) == addresses
    assert all(np.array_equal(Image.open(path), PIXELS) for path in found.addresses)
    assert local(addresses, tmp_path).paths == found.paths[:3] and len(host.requests) == 3


def test_addresses_need_the_option_and_https(host, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"/x\.png is an address; allowed: files, folders, and with --download FOLDER"):
        local([f"{host.url}/x.png"], None)
    monkeypatch.delenv(CONSENT)
    with pytest.raises(UserError, match=r"images are at http://.*which anybody on the way could change"):
        local([f"{host.url}/x.png"], tmp_path)
    assert not host.requests
    with pytest.raises(UserError, match=r"images are at file:///etc/passwd; allowed: addresses of https and http"):
        local(["file:///etc/passwd"], tmp_path)


def test_what_is_too_long_is_not_kept(host, tmp_path, monkeypatch):
    monkeypatch.setattr("ziggurat.engine.addresses.LARGEST", 100)
    with pytest.raises(UserError, match=r"cannot download .*x\.png \(more than 100 bytes\)"):
        local([f"{host.url}/x.png"], tmp_path)
    assert LARGEST > 1e9 and not list(tmp_path.glob("*.png"))


def test_predictions_are_called_by_the_address(host, tmp_path, monkeypatch, request, capsys):
    import predict

    monkeypatch.chdir(request.config.rootpath)
    file = checkpoint_of("classification", tmp_path)
    argv = [file, f"{host.url}/x.png", f"{host.url}/gone", "--download", tmp_path / "kept", "--out", tmp_path / "out"]
    status, out, err = run(predict, [*argv, "--device", "cpu"], monkeypatch, capsys)
    assert status == 1 and "1 of 2 images" in out and "skipped: cannot download" in err and "/gone" in err
    (result,) = (tmp_path / "out").glob("*.json")
    assert json.loads(result.read_text())["image"] == f"{host.url}/x.png" and result.stem.endswith("-x")
