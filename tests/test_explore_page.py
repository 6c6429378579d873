"""The page for looking into networks, as a browser shows it: every view is chosen and clicked."""

import threading

import browser
import numpy as np
import pytest
import torch
from helpers import SMALL
from PIL import Image

from backbones.registry import family_of
from classification.model import create_classifier
from ziggurat.engine.explore import session
from ziggurat.engine.explore.server import Server
from ziggurat.engine.explore.session import Session

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium")
READY = "!!document.querySelector('.panel') && !document.querySelector('.working') && "
READY += "[...document.querySelectorAll('.panel')].every(panel => panel.querySelector('.frame img').naturalWidth > 0 "
READY += "&& [...panel.querySelectorAll('.strip img')].every(image => image.naturalWidth > 0))"


@pytest.fixture
def tab(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "SIDE", 192)
    for arch in SMALL:
        family = family_of(arch)
        row = family.ARCHS[arch]._replace(depths=(2, 1, 1, 1))
        monkeypatch.setattr(family, "ARCHS", family.ARCHS | {arch: row})
    torch.save(create_classifier("van_b0").state_dict(), tmp_path / "classifier.pth")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)).save(tmp_path / "street.png")
    made = Session([str(tmp_path / "classifier.pth"), "vvt_tiny"], [tmp_path / "street.png"], torch.device("cpu"), 64)
    with Server(made) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with browser.opened(server.address, tmp_path / "browser") as tab:
                tab.wait(READY)
                tab.uploads = made.pictures.uploads
                yield tab
        finally:
            server.shutdown()
            thread.join()


def choose(tab, name, value):
    tab.run(
        f"(() => {{ const one = document.querySelector('.{name}'); one.value = {value!r};"
        "for (const kind of ['input', 'change']) one.dispatchEvent(new Event(kind)); })()"
    )
    tab.wait("new Promise(done => setTimeout(() => done(true), 80))")  # a slider waits for its next step
    tab.wait(READY)


def shown(tab):
    """The chosen view, what is said, and the name of the picture."""
    said = tab.run("[...document.querySelectorAll('[role=alert]')].map(one => one.textContent).join('')")
    return tab.run("document.querySelector('.view').value"), said, tab.run("document.querySelector('.save').download")


def place_of_picture(tab):
    return tab.run(
        "(() => { const box = document.querySelector('.frame img').getBoundingClientRect();"
        "return [box.left, box.top, box.width, box.height]; })()"
    )


def test_every_view_is_shown_and_clicked(tab):
    given = tab.run("[...document.querySelector('.model optgroup').children].map(one => one.value.split('/').at(-1))")
    assert given == ["classifier.pth", "vvt_tiny"]
    assert tab.run("document.querySelector('.stage').options[0].textContent") == "0: 32 × 16 × 24"
    for model in (None, "hornet_tiny_gf", "pvig_tiny", "vvt_tiny"):
        if model:
            choose(tab, "model", model)
        for view in tab.run("[...document.querySelector('.view').options].map(one => one.value)"):
            if model and view in ("image", "components", "strength", "channel", "likeness"):
                continue
            choose(tab, "view", view)
            left, top, width, height = place_of_picture(tab)
            tab.click(left + 0.3 * width, top + 0.6 * height)
            tab.wait(READY)
            moves = view in ("image", "components", "strength", "channel")
            assert shown(tab)[:2] == ("likeness" if moves else view, ""), view
            visible = tab.run(
                "[...document.querySelectorAll('[data-control]:not([hidden])')].map(one => one.dataset.control)"
            )
            for name in set(visible) & {"block", "channels"}:  # their last value
                choose(tab, name, tab.run(f"document.querySelector('.{name}').max"))
                assert shown(tab)[1] == ""
            unnamed = tab.run(
                "[...document.querySelectorAll('input, select')].filter(one => one.offsetParent && one.id !== 'file' "
                "&& !one.labels.length).map(one => one.className).join()"
            )
            assert unnamed == ""
    # Keys move by one position of the map, and a reload keeps all.
    assert shown(tab)[2].endswith("vvt_tiny_stage2_vicinity_block0_head0_row2_column1.png")
    tab.run("document.querySelector('.frame').focus()")
    tab.press("ArrowRight")
    tab.press("ArrowUp")
    tab.wait(READY + " && document.querySelector('.save').download.endsWith('row1_column2.png')")
    before = shown(tab)
    tab.run("window.isOld = true")
    tab.call("Page.reload")
    tab.wait("!window.isOld && " + READY)
    assert shown(tab) == before
    # An image that the server no longer keeps leaves the gallery.
    for name in ("old", "new"):
        tab.uploads.clear()
        tab.run(
            f"(() => {{ const data = new DataTransfer(), text = 'P2 1 1 255 0 # {name}';"
            f"data.items.add(new File([text], '{name}.pgm'));"
            "dispatchEvent(new DragEvent('drop', { dataTransfer: data })); })()"
        )
        tab.wait(f"[...document.querySelectorAll('#gallery button')].at(-1).title === '{name}.pgm'")
        tab.wait(READY)
    tab.wait("!document.querySelector('[title=\"old.pgm\"]')")
    tab.run("document.querySelector('#gallery button').click()")
    tab.wait(READY)
    # Two networks have the same click.
    tab.run("document.querySelector('#compare').click()")
    tab.wait(READY + " && document.querySelectorAll('.panel').length === 2")
    left, top, width, height = place_of_picture(tab)
    tab.click(left + 0.9 * width, top + 0.1 * height)
    tab.wait(READY + " && [...document.querySelectorAll('.save')].every(one => one.download.includes('row0_column5'))")
    # A file that is no checkpoint is one line, in place of the picture.
    choose(tab, "model", "a file")
    tab.run(
        "document.querySelector('input.path').value = '/absent.pth'; document.querySelector('.path button').click()"
    )
    tab.wait("document.querySelector('.panel.empty .error')?.textContent.startsWith('no such file: /absent.pth')")
    refused = [problem for problem in tab.problems if "400 (Bad Request)" not in str(problem)]
    assert not refused
