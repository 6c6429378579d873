"""Names in somebody's file command no terminal and no browser: of tensors, classes, files and parts of archives."""

import io
import logging
import pickle
import subprocess
import sys
import warnings
import zipfile

import convert_weights
import pytest
import torch
import verify_checkpoint
from conftest import ROOT
from helpers import run
from paper_run import RECIPE, options_for

from backbones import UserError, create_backbone
from backbones.errors import Notice, UnreadableImage, printable
from ziggurat.engine.cli import run_tool
from ziggurat.engine.config import load_config
from ziggurat.engine.console import library_warnings_to, plain_record, say_note
from ziggurat.engine.run import build_training
from ziggurat.engine.summary import page

CLEAR = "\x1b[2J\x1b]0;title\x07\x9b31m\r\u202e"
SHOWN = r"\x1b[2J\x1b]0;title\x07\x9b31m\r\u202e"
SCRIPT = "<script>alert('&')</script>"


def is_plain(text):
    return printable(text) == text


def test_what_commands_a_terminal_is_written_out():
    assert printable(f"a{CLEAR}b\tc\nd") == f"a{SHOWN}b\tc\nd"
    usual = "name, 名前, naïve, 👩, ₂, \\x1b, 'a'"
    assert printable(usual) == usual and printable(printable(CLEAR)) == printable(CLEAR)
    assert printable("file\udcff.png") == r"file\udcff.png"


@pytest.mark.parametrize("kind", [UserError, UnreadableImage, Notice])
def test_errors_and_notices_are_plain(kind):
    error = kind(f"class {CLEAR}")
    assert str(error) == f"class {SHOWN}" and str(pickle.loads(pickle.dumps(error))) == str(error)


def test_notes_errors_and_log_lines_are_plain(capsys):
    say_note(CLEAR)
    with library_warnings_to(None):
        warnings.warn(CLEAR, Notice, stacklevel=1)
    with pytest.raises(SystemExit):
        run_tool(lambda: (_ for _ in ()).throw(UserError(CLEAR)))
    record = logging.LogRecord("a", logging.INFO, "", 1, "class %s\n", (CLEAR,), None)
    assert plain_record(record) and record.getMessage() == f"class {SHOWN}\n"
    err = capsys.readouterr().err
    assert err == f"note: {SHOWN}\nnote: {SHOWN}\nerror: {SHOWN}\n"


def test_a_tool_prints_a_name_that_is_no_text(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: print("file\udcff.png"))
    assert not end.value.code and out.buffer.getvalue() == b"file\\udcff.png\n"


def test_tools_show_names_of_tensors_plainly(tmp_path, monkeypatch, capsys):
    state = create_backbone("van_b0").state_dict()
    torch.save({**state, CLEAR: torch.zeros(1), f"head.{CLEAR}": torch.zeros(1)}, tmp_path / "w.pth")
    status, out, err = run(convert_weights, [tmp_path / "w.pth", tmp_path / "a.pth"], monkeypatch, capsys)
    assert is_plain(out + err) and (status == 2) and SHOWN in err
    inner = {f"{CLEAR}.{name}": value for name, value in state.items()}
    torch.save({**inner, CLEAR: torch.zeros(1)}, tmp_path / "w.pth")
    status, out, err = run(convert_weights, [tmp_path / "w.pth", tmp_path / "a.pth"], monkeypatch, capsys)
    assert is_plain(out + err) and SHOWN in out


def test_names_of_files_and_parts_are_plain(tmp_path, monkeypatch, capsys):
    torch.save({"a": torch.zeros(1)}, tmp_path / f"{CLEAR}.pth")
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        archive.writestr(f"a/{CLEAR}", b"content")
    data = (tmp_path / "b.pth").read_bytes()
    (tmp_path / "b.pth").write_bytes(data.replace(b"content", b"CONTENT"))
    _, out, err = run(verify_checkpoint, [tmp_path], monkeypatch, capsys)
    assert is_plain(out + err) and SHOWN in out and "is damaged: its part" in out


def test_the_log_of_a_run_is_plain(tmp_path, noise_images, monkeypatch, capsys, shallow_van):
    monkeypatch.chdir(ROOT)
    runner = build_training(load_config(RECIPE, options_for(noise_images, workers=0)), tmp_path / "run", device="cpu")
    runner.logger.info("AP of %s", CLEAR)
    runner.logger.error(f"AP of {CLEAR}")
    written = next((tmp_path / "run").glob("*/*.log")).read_text()
    assert written.count(f"AP of {SHOWN}") == 2 and is_plain(written)
    captured = capsys.readouterr()
    assert f"AP of {SHOWN}" in captured.out + captured.err


def test_a_page_holds_names_as_text():
    text = page(SCRIPT, SCRIPT, {SCRIPT: {1.0: 2.0}})
    assert text.count("&lt;script&gt;") == 4 and "<script" not in text


def test_a_tool_prints_a_notice_as_one_line():
    code = (
        "import warnings; from backbones.errors import Notice; from ziggurat.engine.cli import run_tool\ndef main():\n"
    )
    code += "    warnings.warn(Notice('weights lack a head'))\n    warnings.warn('of a library')\nrun_tool(main)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[0] == "note: weights lack a head"
    assert "UserWarning: of a library" in done.stderr
