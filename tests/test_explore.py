"""The page for looking into networks: what its server answers, over HTTP, and what it refuses."""

import http.client
import io
import json
import os
import socket
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import explore
import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers import SMALL, run
from PIL import Image

from backbones import FeatureExtractor, UserError, create_backbone, list_weights
from backbones.registry import family_of
from backbones.show import Look, colours, heat, likeness, lines, strength
from classification.model import create_classifier
from ziggurat.engine.explore import networks, server, session
from ziggurat.engine.explore.networks import Network, find_weights, open_network
from ziggurat.engine.explore.pictures import UPLOAD, Pictures
from ziggurat.engine.explore.session import Session
from ziggurat.engine.results import ClassMap

CPU = torch.device("cpu")
SHOWN = (192, 128)  # pixels of pictures here
FAMILY_VIEWS = {
    "van_b0": {"attention"},
    "hornet_tiny_7x7": {"gates"},
    "hornet_tiny_gf": {"gates", "filters"},
    "pvig_tiny": {"neighbours"},
    "vig_tiny": {"neighbours"},
    "vvt_tiny": {"vicinity"},
}
EVERYWHERE = {"image", "components", "strength", "channel", "likeness"}


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """All small archs with one block in each stage, and small pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "SIDE", max(SHOWN))
        for arch in SMALL:
            family = family_of(arch)
            row = family.ARCHS[arch]._replace(depths=(1, 1, 1, 1))
            patch.setattr(family, "ARCHS", family.ARCHS | {arch: row})
        yield


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "a street, übersicht.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)).save(path)
    return path


@contextmanager
def serving(made):
    with server.Server(made) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def page(street):
    """The server with an image and no network of the command line."""
    with serving(Session([], [street], CPU, 64)) as running:
        yield running


def send(page, method, path, body=None, **headers):
    """Status, headers and content of an answer. Headers of None are left out."""
    connection = http.client.HTTPConnection("127.0.0.1", page.server_port, timeout=30)
    given = {"X-Token": page.token} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, {name: value for name, value in given.items() if value is not None})
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def ask(page, path, **asked):
    status, _, content = send(page, "POST", path, json.dumps(asked))
    return status, json.loads(content)


def picture(page, **asked):
    asked = {"image": "given-0", "size": 64, **asked}
    status, headers, content = send(page, "POST", "/picture", json.dumps(asked))
    assert status == 200, content
    return Image.open(io.BytesIO(content)), headers


@pytest.mark.parametrize("arch", SMALL)
def test_every_view_of_each_family(page, arch):
    status, facts = ask(page, "/facts", image="given-0", size=64, model=arch)
    assert status == 200 and facts["arch"] == arch and facts["input"] == [3, 64, 96] and facts["classes"] == []
    assert {view["name"] for view in facts["views"]} == EVERYWHERE | FAMILY_VIEWS[arch]
    names = set()
    for view in facts["views"]:
        for i, stage in enumerate(facts["stages"]):
            if view["name"] in EVERYWHERE or view["name"] in stage["parts"]:
                shown, headers = picture(page, model=arch, view=view["name"], stage=i, x=0.7, y=0.2)
                names.add(headers["X-Name"])
                assert view["name"] == "filters" or shown.size == SHOWN
    height, width = (facts["stages"][1][name] for name in ("height", "width"))
    place = f"row{height // 5}_column{width * 7 // 10}"
    assert f"a-street-%C3%BCbersicht_{arch}_stage1_likeness_{place}.png" in names


def look_of(arch, street):
    """The page's input, and what the network computes for it, without the page."""
    torch.manual_seed(0)
    extractor = FeatureExtractor(arch)
    return Look(extractor.net, extractor.prepare(street)[None])


def same_picture(shown, expected):
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(expected))


def test_pictures_are_those_of_the_maps(page, street):
    look = look_of("pvig_tiny", street)
    shown, _ = picture(page, model="pvig_tiny", view="components", stage=2)
    same_picture(shown, colours(look.maps[2], SHOWN))
    base, _ = picture(page, model="pvig_tiny", view="image")
    shown, headers = picture(page, model="pvig_tiny", view="neighbours", stage=1, x=0.5, y=0.99)
    same_picture(shown, lines(base, (7, 6), look.neighbours(1, 0, 7, 6), (8, 12)))
    assert headers["X-Name"].endswith("_pvig_tiny_stage1_neighbours_block0_row7_column6.png")
    shown, headers = picture(page, model="pvig_tiny", view="likeness", stage=0, x=0.999, y=0)
    values = likeness(look.maps[0], 0, 23)
    shown = np.asarray(shown)
    assert (shown == np.asarray(heat(values, SHOWN))).all(-1).mean() > 0.97  # but for the ring
    low, high = map(float, headers["X-Range"].split())
    assert low == pytest.approx(values.min().item(), rel=1e-3) and high == pytest.approx(1, abs=1e-3)


def test_channels_heads_and_orders_are_the_chosen_ones(page, street):
    van, hornet, vvt = (look_of(arch, street) for arch in ("van_b0", "hornet_tiny_gf", "vvt_tiny"))
    for asked, values in (
        ({"model": "van_b0", "view": "attention", "stage": 1, "channels": 5}, van.attention(1, 0)[5]),
        ({"model": "van_b0", "view": "attention", "stage": 1}, strength(van.attention(1, 0))),
        ({"model": "van_b0", "view": "channel", "stage": 1, "channel": 63}, van.maps[1][63]),
        ({"model": "hornet_tiny_gf", "view": "gates", "stage": 0, "order": 1, "channels": 2}, hornet.gates(0, 0)[1][2]),
    ):
        same_picture(picture(page, **asked)[0], heat(values, SHOWN))
    shown, _ = picture(page, model="vvt_tiny", view="vicinity", stage=1, head=1, x=0, y=0)
    expected = np.asarray(heat(vvt.vicinity(1, 0, 0, 0, head=1), SHOWN))
    assert (np.asarray(shown) == expected).all(-1).mean() > 0.97
    filters, _ = picture(page, model="hornet_tiny_gf", view="filters", stage=2, channels=3)
    expected = heat(hornet.filters(2, 0)[3].log())
    same_picture(filters.resize(expected.size, Image.Resampling.NEAREST), expected)


def test_a_view_runs_no_network_again(page, street, monkeypatch):
    made = Session([], [street], CPU, 64)
    asked = {"image": "given-0", "model": "vig_tiny"}
    made.facts(asked)
    monkeypatch.setattr(Look, "forward", lambda *_: pytest.fail("the network runs"))
    for view in ("neighbours", "components", "likeness"):
        made.picture(asked | {"view": view})
    assert len(made.networks.values) == len(made.passes.values) == 1


def test_a_classifier_has_scores_and_the_evidence_for_a_class(street, tmp_path):
    clf = create_classifier("van_b0").eval()
    torch.save(clf.state_dict(), tmp_path / "classifier.pth")
    network = open_network(str(tmp_path / "classifier.pth"), networks.RANDOM, CPU)
    with torch.no_grad():
        expected = clf(look_of("van_b0", street).image)[0].softmax(0)
    made = Session([str(tmp_path / "classifier.pth")], [street], CPU, 64)
    asked = {"image": "given-0", "model": made.models[0]}
    classes = made.facts(asked)["classes"]
    assert len(classes) == 1000 and classes[0]["label"] == expected.argmax() and network.head is not None
    assert classes[0]["score"] == pytest.approx(expected.max().item(), abs=1e-4) and classes[0]["name"]
    drawn = made.picture(asked | {"view": "class", "label": 7})
    assert drawn.name.endswith("van_b0_classifier_class_label7.png") and drawn.values[0] < drawn.values[1]
    with pytest.raises(UserError, match=r"is of van_b0; allowed: weights of van_b1"):
        open_network("van_b1", made.models[0], CPU)


def test_predictions_are_drawn_on_the_image_in_its_own_size(street, monkeypatch):
    class Segmenter:
        task = SimpleNamespace(result_type=ClassMap)
        calls = 0

        def __call__(self, pixels):
            self.calls += 1
            return ClassMap(np.zeros(pixels.shape[:2], np.uint8), ["a"])

        def draw(self, pixels, result):
            assert result.class_map.shape == pixels.shape[:2] == (64, 96)
            return Image.fromarray(pixels)

    net = open_network("van_b0", networks.RANDOM, CPU)
    parts = {name: getattr(net, name) for name in ("backbone", "mean", "std", "reading")}
    segmenter = Segmenter()
    network = Network(**parts, weights="w.pth", names=("a",), predictor=segmenter)
    monkeypatch.setattr(session, "open_network", lambda *_: network)
    made = Session(["w.pth"], [street], CPU, 64)
    asked = {"image": "given-0", "model": "w.pth"}
    assert {"name": "prediction", "controls": []}.items() <= made.facts(asked)["views"][-1].items()  # no scores
    for _ in range(2):
        same_picture(Image.open(io.BytesIO(made.picture(asked | {"view": "prediction"}).content)), Image.open(street))
    assert segmenter.calls == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": "van_b9"}, "unknown arch, weights or file 'van_b9'; nearest: van_b"),
        ({"model": "mask_rcnn_van_b2_fpn_1x"}, "no such config: mask_rcnn_van_b2_fpn_1x; nearest: mask_rcnn_van_b2"),
        ({"weights": "van_b0.in1"}, "unknown weights name (and no such file) 'van_b0.in1'; nearest: van_b0.in1k"),
        ({"weights": "van_b0.pth"}, "no such file: van_b0.pth; allowed: the path of a checkpoint"),
        ({"model": ""}, "no file is named"),
        ({"model": "../no/such/file.pth"}, "no such file"),
        ({"model": "/etc"}, "no such file: /etc;"),
        ({"model": "https://example.com/w.pth"}, "no such file: https://example.com/w.pth"),
        ({"model": list_weights()[0]}, "are not on this machine; allowed: ziggurat explore"),
        ({"model": "van_b0", "weights": list_weights()[0]}, "are not on this machine"),
        ({"model": None}, "network is None; allowed: a text"),
        ({"model": "a\0b"}, "allowed: a text"),
        ({"weights": 3}, "weights is 3; allowed: a text"),
        ({"image": "given-1"}, "image 'given-1' is not here any more; choose it again"),
        ({"image": "../given-0"}, "is not here any more"),
        ({"image": ["given-0"]}, "is not here any more"),
        ({"view": "secrets"}, "unknown view 'secrets'; allowed: "),
        ({"view": ["image"]}, "unknown view"),
        ({"view": "gates"}, "stage 0 of van_b0 has no gated convolution"),
        ({"view": "class"}, "van_b0 with random weights has no classes"),
        ({"view": "prediction"}, "van_b0 with random weights draws no predictions"),
        ({"stage": 4}, "stage is 4; allowed: integers from 0 to 3"),
        ({"stage": -1}, "stage is -1"),
        ({"stage": "0"}, "stage is '0'"),
        ({"view": "attention", "block": 1}, "block is 1; allowed: 0 to 0 of stage 0 of van_b0"),
        ({"view": "attention", "channels": 32}, "channels is 32; allowed: -1 for all, 0 to 31"),
        ({"view": "channel", "channel": 32}, "channel is 32; allowed: integers from 0 to 31"),
        ({"view": "likeness", "x": 2}, "x is 2; allowed: 0 to 1"),
        ({"view": "likeness", "y": float("nan")}, "y is nan; allowed: 0 to 1"),
        ({"blend": None}, "blend is None; allowed: 0 to 1"),
        ({"size": 31}, "size is 31; allowed: integers from 32 to 1024"),
        ({"size": 1e3}, "size is 1000.0"),
        ({"side": 10**9}, "side is 1000000000"),
    ],
)
def test_what_cannot_be_shown_is_one_line(page, asked, message):
    asked = {"image": "given-0", "model": "van_b0", "view": "components", "size": 64} | asked
    status, answer = ask(page, "/picture", **asked)
    assert status == 400 and message in answer["error"] and "\n" not in answer["error"]


def test_only_the_own_page_of_this_machine_is_answered(page):
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost@evil.example"):
        for method, path in (("GET", "/"), ("POST", "/choices")):
            status, _, content = send(page, method, path, "{}", Host=host)
            assert status == 403 and page.token.encode() not in content
    for host in (f"localhost:{page.server_port}", "127.0.0.1:1", "LOCALHOST"):  # another port: a forwarded one
        assert send(page, "GET", "/", Host=host)[0] == 200
    own = f"127.0.0.1:{page.server_port}"
    assert send(page, "POST", "/choices", "{}", Host=own, Origin=f"http://{own}")[0] == 200
    foreign = [{"Origin": "http://evil.example"}, {"Origin": "null"}]
    for headers in (*foreign, {"X_Token": None}, {"X_Token": ""}, {"X_Token": b"\xe9"}):
        assert send(page, "POST", "/choices", "{}", Host=own, **headers)[0] == 403
    assert page.server_address[0] == "127.0.0.1"


def test_only_the_files_of_the_page_are_served(page):
    for path in ("/%2e%2e/server.py", "/../server.py", "/server.py", "//etc/passwd", "/page.js/..", "/x.ico", "/%00"):
        assert send(page, "GET", path)[0] == 404
    for path in ("/", "/page.js", "/panel.js", "/state.js", "/api.js", "/page.css", "/icon.svg"):
        status, headers, content = send(page, "GET", path)
        assert status == 200 and headers["X-Content-Type-Options"] == "nosniff" and content
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert b"http" not in content.replace(b"http://www.w3.org/2000/svg", b""), "something is loaded from elsewhere"
    assert send(page, "POST", "/page.js", "{}")[0] == 404


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "PUT", "OPTIONS", "X"])
def test_other_methods_are_one_line(page, method):
    status, headers, content = send(page, method, "/")
    assert status == 405 and headers["Allow"] == "GET, POST"
    assert content == b"" if method == "HEAD" else f"the method is {method};" in json.loads(content)["error"]
    assert send(page, method, "/", Host="evil.example")[0] == 403


def spoken(page, request, is_ended=False):
    """The status and the error that a request, as bytes, gets."""
    with socket.create_connection(("127.0.0.1", page.server_port), timeout=30) as connection:
        connection.sendall(request)
        if is_ended:
            connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            head, _, body = file.read().partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def test_faults_of_clients_are_one_line_and_not_on_the_console(page, monkeypatch, capsys):
    monkeypatch.setattr(server.Handler, "timeout", 0.3)
    post = f"POST /images HTTP/1.1\r\nHost: localhost\r\nX-Token: {page.token}\r\nContent-Length: ".encode()
    for request, is_ended, expected, message in (
        (b"GET / HTTP/1.1\r\nHost: [\r\n\r\n", False, 403, "the host is '['"),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", True, 400, "the address is 'http://['"),
        (b"GET / x HTTP/1.1\r\n\r\n", False, 400, "Bad request syntax"),
        (post + b"9" * 5000 + b"\r\n\r\n", False, 413, "allowed: up to"),
        (post + b"9\r\n\r\n", False, 400, "the upload was cut off: nothing came"),
        (post + b"9\r\n\r\nabc", True, 400, "the upload was cut off: 3 of 9 bytes came"),
    ):
        status, error = spoken(page, request, is_ended)
        assert status == expected and message in error and "\n" not in error
    assert capsys.readouterr() == ("", "")


def test_many_connections_wait_to_be_accepted(street):
    with server.Server(Session([], [street], CPU, 64)) as idle:  # accepts none
        waiting = [socket.create_connection(idle.server_address, timeout=2) for _ in range(32)]
        for connection in waiting:
            connection.close()


@pytest.mark.parametrize("body", ["", "{", "[1]", "null", '"text"', "[" * 50000, b"\xff\xfe", "{}" + " " * 70000])
def test_bad_requests_are_one_line(page, body):
    status, _, content = send(page, "POST", "/picture", body)
    assert status == (413 if len(body) > 65536 else 400) and "\n" not in json.loads(content)["error"]


def test_uploads(page, street, monkeypatch):
    name = "my%20photo%2F..%2F%C3%BC.png"
    status, _, content = send(page, "POST", "/images", street.read_bytes(), X_Name=name)
    key = json.loads(content)["key"]
    assert status == 200 and picture(page, image=key, model="van_b0", view="image")[1]["X-Name"].startswith("%C3%BC_")
    assert key in [image["key"] for image in ask(page, "/choices")[1]["images"]]
    status, _, content = send(page, "POST", "/thumbnail", json.dumps({"image": key}))
    assert status == 200 and Image.open(io.BytesIO(content)).size == (96, 64)
    for body, message in ((b"", "image is empty"), (b"no image", "not an image that can be read")):
        status, _, content = send(page, "POST", "/images", body, X_Name="x.png")
        assert status == 400 and message in json.loads(content)["error"]
    for length, status in ((str(UPLOAD + 1), 413), ("-1", 411), ("x", 411), ("٣".encode(), 411)):
        assert send(page, "POST", "/images", None, Content_Length=length)[0] == status
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    status, _, content = send(page, "POST", "/images", street.read_bytes())
    assert status == 400 and "too many pixels" in json.loads(content)["error"]


def as_npy(values):
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def test_arrays_that_no_picture_is_made_of(page):
    content = as_npy(np.zeros((40, 50, 5), np.uint8))
    status, _, answer = send(page, "POST", "/images", content, X_Name="five.npy")
    key = json.loads(answer)["key"]
    status, _, thumbnail = send(page, "POST", "/thumbnail", json.dumps({"image": key}))
    (found,) = Image.open(io.BytesIO(thumbnail)).convert("RGB").getcolors()  # of one colour
    assert status == 200 and found[1] not in ((0, 0, 0), (255, 255, 255))
    status, answer = ask(page, "/facts", image=key, model="van_b0", size=64)
    assert status == 400 and "five.npy has shape (40, 50, 5); allowed: " in answer["error"]
    for body, message in (
        (as_npy(np.array([None, {}])), "x.npy holds Python's objects"),
        (as_npy(np.zeros((2, 3, 4, 5))), "x.npy has shape (2, 3, 4, 5)"),
        (content[:-1], "cannot be read to its end"),
    ):
        status, _, answer = send(page, "POST", "/images", body, X_Name="x.npy")
        assert status == 400 and message in json.loads(answer)["error"]


def test_a_cut_off_tiff_is_refused_when_it_is_uploaded(page, street):
    picture, many = io.BytesIO(), io.BytesIO()
    Image.open(street).save(picture, "TIFF")
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(many, np.ones((40, 50, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    for file in (picture, many):
        for cut, wanted in ((0, 200), (20, 400), (3000, 400), (len(file.getvalue()) - 9, 400)):
            content = file.getvalue()[: len(file.getvalue()) - cut]
            status, _, answer = send(page, "POST", "/images", content, X_Name="x.tif")
            assert status == wanted, (cut, answer)
            if wanted == 400:
                assert "x.tif" in json.loads(answer)["error"] and "\n" not in json.loads(answer)["error"]


def test_the_oldest_upload_goes_first(street):
    pictures = Pictures([])
    keys = []
    for colour in range(20):
        file = io.BytesIO()
        Image.new("L", (32, 32), colour).save(file, "PNG")
        keys.append(pictures.add(f"{colour}.png", file.getvalue()))
    listed = [picture["key"] for picture in pictures.listed()]
    assert listed[-16:] == keys[4:] and "sample-chelsea" in listed
    with pytest.raises(UserError, match="choose it again"):
        pictures[keys[0]]


def test_an_image_that_would_fill_the_memory_is_refused(page):
    file = io.BytesIO()
    Image.new("RGB", (20000, 40)).save(file, "PNG")
    key = json.loads(send(page, "POST", "/images", file.getvalue())[2])["key"]
    status, answer = ask(page, "/facts", image=key, model="van_b0", size=1024)
    assert status == 400 and "sides of 20000 and 40 pixels, which size 1024 makes 512000x1024" in answer["error"]


def test_a_fault_is_said_and_the_server_goes_on(page, monkeypatch, capsys):
    monkeypatch.setattr(page.session, "facts", lambda asked: 1 / 0)
    status, answer = ask(page, "/facts")
    assert status == 500 and "a fault of this program" in answer["error"] and "ZeroDivisionError" in answer["error"]
    assert "Traceback" in capsys.readouterr().err
    assert ask(page, "/choices")[0] == 200


def test_weights_that_diverged_are_named(street, tmp_path):
    net = create_backbone("van_b0")
    torch.nn.init.constant_(net.stages[3].norm.bias, float("nan"))
    torch.save(net.state_dict(), tmp_path / "w.pth")
    made = Session([], [street], CPU, 64)
    with pytest.raises(UserError, match=r"w\.pth gives values that are not finite"):
        made.facts({"image": "given-0", "model": "van_b0", "weights": str(tmp_path / "w.pth")})


def test_a_checkpoint_that_is_written_anew_is_opened_anew(street, tmp_path):
    made = Session([], [street], CPU, 64)
    asked = {"image": "given-0", "model": str(tmp_path / "w.pth"), "view": "strength", "stage": 1}
    drawn = []
    for stamp in (1, 1, 2):
        torch.save(create_backbone("van_b0").state_dict(), tmp_path / "w.pth")
        os.utime(tmp_path / "w.pth", (stamp, stamp))
        drawn.append(made.picture(asked).content)
    assert drawn[0] == drawn[1] != drawn[2]


def test_requests_at_the_same_time_are_all_answered(page):
    answers = []
    asked = [{"model": arch, "view": "components", "stage": i} for arch in ("van_b0", "vvt_tiny") for i in range(4)]
    threads = [threading.Thread(target=lambda one=one: answers.append(picture(page, **one)[0].size)) for one in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [SHOWN] * len(asked)


def test_the_command(page, monkeypatch, capsys, street, tmp_path):
    monkeypatch.setattr(server.Server, "serve_forever", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    status, out, err = run(explore, ["van_b0", "--image", street, "--port", 0], monkeypatch, capsys)
    assert (status, err) == (0, "") and "http://127.0.0.1:" in out and "ended" in out
    status, _, err = run(explore, ["--port", page.server_port], monkeypatch, capsys)
    assert status == 2 and err.startswith(f"error: --port {page.server_port}: ") and err.count("\n") == 1
    monkeypatch.setattr(explore, "PORT", page.server_port)
    status, out, _ = run(explore, [], monkeypatch, capsys)
    assert status == 0 and f":{page.server_port}/" not in out
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04")
    for argv, message in (
        (["absent.pth"], "no such file: absent.pth"),
        ([tmp_path / "cut.pth"], "cut.pth"),
        ([tmp_path], "no such file"),
        (["--image", "absent.png"], "no such image: absent.png"),
        (["--size", "20"], "--size is 20; allowed: integers from 32 to 1024"),
        (["--port", "70000"], "--port is 70000; allowed: 0 to 65535"),
    ):
        status, _, err = run(explore, argv, monkeypatch, capsys)
        assert status == 2 and message in err and err.count("\n") == 1, err


def test_models_of_the_command_line_are_found(tmp_path):
    find_weights("van_b0")
    with pytest.raises(UserError, match=r"unknown arch, weights or file 'van_b9'; nearest: .*\bvan_b\d\b"):
        find_weights("van_b9")
    with pytest.raises(UserError, match="no such file: runs/van_b0"):
        find_weights("runs/van_b0")
    assert (ROOT / "ziggurat/engine/explore/page.html").is_file()
