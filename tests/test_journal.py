"""A folder of predictions: a stopped run goes on, and nothing is written over unless this is asked for."""

import errno
import json
import os

import pytest

from backbones.errors import UserError
from backbones.files import replaced_file
from ziggurat.engine.predicted.formats import DEFAULT
from ziggurat.engine.predicted.journal import Journal
from ziggurat.engine.results import ClassMap, Scores

SETTINGS = dict(score_thr=0.3, cfg_options=[], classes=["a"])


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    paths = [folder / "a.png", folder / "b.png", folder / "more/a.png"]
    for path in paths:
        path.write_bytes(b"pixels")
    return paths


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def names(paths):
    return [str(path) for path in paths]


def fill(out, paths, settings=SETTINGS, overwrite=False, formats=DEFAULT):
    """Records images as a run would. Gives the stems of the images that it did."""
    with Journal(out, settings, overwrite) as journal:
        todo = journal.still_to_do(paths, names(paths))
        journal.begin(todo, formats, overwrite)
        for image in todo:
            for file in journal.files_of([image], formats)[:2]:
                file.parent.mkdir(exist_ok=True)
                file.write_text(image.name)
            row = dict(image=image.name, file=image.stem, modified=image.modified, score=float("nan"))
            journal.add(row)
        assert {row["image"] for row in journal.rows()} >= {*names(paths)}
        return [image.stem for image in todo]


def test_what_is_recorded_is_not_done_again(out, images):
    assert fill(out, images[:2]) == ["a", "b"]
    assert fill(out, images) == ["a_2"], "a new image of the same name gets files of its own"
    assert fill(out, images) == []
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == names(images) and lines[0]["score"] is None


def test_a_changed_image_is_done_again_and_counts_once(out, images, capsys):
    fill(out, images)
    os.utime(images[1], (1, 1))
    assert fill(out, images) == ["b"] and "b.png" in capsys.readouterr().err
    with Journal(out, SETTINGS) as journal:
        assert sorted(row["image"] for row in journal.rows()) == sorted(names(images))
        assert [row["modified"] for row in journal.rows() if row["file"] == "b"] == [1]


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_line_that_was_cut_off_is_done_again(out, images, cut, capsys):
    fill(out, images)
    path = out / "predictions.jsonl"
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[: last + cut] if cut > 0 else whole[:-1])
    assert len(fill(out, images)) == 1 and "cut off" in capsys.readouterr().err
    assert path.read_bytes() == whole


def test_files_of_a_killed_run_are_written_again(out, images):
    with Journal(out, SETTINGS) as journal:
        todo = journal.still_to_do(images, names(images))
        journal.begin(todo, DEFAULT)
        (out / f"{todo[1].stem}.png").write_text("half")
    assert fill(out, images) == [image.stem for image in todo]
    assert (out / f"{todo[1].stem}.png").read_text() == names(images)[1]


def test_other_settings_are_named(out, images):
    fill(out, images)
    with pytest.raises(UserError, match=r"score_thr 0\.3, and this run has 0\.5; allowed: another --out, or --overwri"):
        fill(out, images, SETTINGS | dict(score_thr=0.5))
    (out / ".settings").unlink()
    (out / ".lock").unlink()
    with pytest.raises(UserError, match="is absent or no JSON"):
        fill(out, images)
    assert not (out / ".lock").exists()


def test_overwriting_removes_earlier_predictions_and_nothing_else(out, images):
    fill(out, images)
    (out / "mine.png").write_text("mine")
    assert fill(out, images[:1], SETTINGS | dict(score_thr=0.5), overwrite=True) == ["a"]
    left = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert left == {"a.png", "a.json", "mine.png", "predictions.jsonl"}


@pytest.mark.parametrize("name", ["b.png", "b.json", "masks/b.png"])
def test_files_from_elsewhere_stay(out, images, name):
    (out / "masks").mkdir()
    (out / name).write_text("mine")
    with pytest.raises(UserError, match=r"there already, from elsewhere; allowed: another --out, or --overwrite"):
        fill(out, images)
    assert (out / name).read_text() == "mine"
    assert [path for path in out.rglob("*") if path.is_file()] == [out / name], "a refused run leaves nothing"


def test_a_summary_from_elsewhere_stays(out, images):
    (out / "predictions.csv").write_text("mine")
    with pytest.raises(UserError, match=r"predictions\.csv: there already"):
        fill(out, images, formats=["csv"])


@pytest.mark.parametrize(
    "line", ["no json", "[]", "{}", '{"image": "x", "file": "../../x", "modified": 1}', '{"image": 3, "file": "x"}']
)
def test_a_foreign_record_is_named(out, images, line):
    fill(out, images)
    path = out / "predictions.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"predictions\.jsonl:4 is no record of a prediction"):
        fill(out, images)


def test_overwriting_removes_no_input(out, images):
    """A picture that an earlier run drew is what the next run shall predict on."""
    stem = fill(out, images)[0]
    with pytest.raises(UserError, match=f"--overwrite would remove the input .*{stem}.png, which an earlier run wrote"):
        Journal(out, SETTINGS, overwrite=True, inputs=[out / f"{stem}.png"])
    assert (out / f"{stem}.png").is_file() and (out / "predictions.jsonl").is_file()


def test_one_process_at_a_time(out, images):
    with Journal(out, SETTINGS), pytest.raises(UserError, match="in use by another"):
        fill(out, images)
    assert fill(out, images)


def test_no_image_takes_the_name_of_a_file_of_all_images(out, tmp_path):
    path = tmp_path / "predictions.coco.png"
    path.write_bytes(b"pixels")
    assert fill(out, [path]) == ["predictions.coco_2"]


def test_overwriting_leaves_files_of_formats_that_no_run_wrote(images):
    """Pictures beside their table: the names of the images are those that drawn pictures would have."""
    folder = images[0].parent
    for overwrite in (False, True):
        assert len(fill(folder, images[:2], overwrite=overwrite, formats=["csv"])) == 2
        assert all(path.read_bytes() == b"pixels" for path in images)


def test_an_image_that_lacks_a_file_is_done_again(out, images, capsys):
    fill(out, images)
    (out / "b.json").unlink()
    with Journal(out, SETTINGS) as journal:
        todo = journal.still_to_do(images, names(images), Scores, DEFAULT)
        assert [one.path for one in todo] == [images[1]] and "lack a file" in capsys.readouterr().err
        assert len(journal.still_to_do(images, names(images), ClassMap, DEFAULT)) == 3, "none has a map"
        assert not journal.still_to_do(images, names(images), Scores, ["csv"])


@pytest.mark.parametrize("name", ["b.png", "predictions.csv"])
def test_a_later_format_writes_over_no_file_from_elsewhere(out, images, name):
    fill(out, images, formats=["json"])
    (out / name).write_text("mine")
    with pytest.raises(UserError, match="there already, from elsewhere"):
        fill(out, images, formats=["pictures", "csv"])
    assert fill(out, images, formats=["json", "masks"]) == [], "maps that the first run wrote are no others"


def frames_of(journal, video, count):
    row = dict(image=str(video), file=video.stem, modified=None)
    for number in range(count):
        journal.add(row | dict(frame=number))
    return row


def test_a_video_that_was_begun_anew_has_each_frame_once(out, images):
    video = out.parent / "v.mp4"
    with Journal(out, SETTINGS) as journal:
        frames_of(journal, video, 3)
    with pytest.raises(UserError, match=r"score_thr 0\.3, and this run has 0\.5"):
        Journal(out, SETTINGS | dict(score_thr=0.5))
    os.utime(images[0], (1, 1))
    fill(out, images)
    os.utime(images[0], (2, 2))
    fill(out, images)
    with Journal(out, SETTINGS) as journal:
        journal.add(frames_of(journal, video, 2) | dict(frames=2))
        journal.tidy()
        assert len(list(journal.rows())) == 5, "three images and two frames"
        journal.add(dict(image="more", file="more", modified=None))
        assert len(list(journal.rows())) == 6, "places of lines are right after lines were removed"
    rows = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows if "frame" in row] == [0, 1]
    assert [row["modified"] for row in rows if row["image"] == str(images[0])] == [2]


def test_files_that_are_no_files(out, images):
    (out / "predictions.jsonl").mkdir()
    with pytest.raises(UserError, match=r"predictions\.jsonl is no file; allowed: another --out"):
        fill(out, images)


def test_a_disk_without_locks(out, images, monkeypatch, capsys):
    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("ziggurat.engine.predicted.run_files.fcntl.flock", refused)
    assert len(fill(out, images)) == 3 and "a disk without locks" in capsys.readouterr().err


def test_what_a_killed_run_left_unfinished_goes(out, images):
    fill(out, images)
    (out / "masks").mkdir()
    left = [".b.mp4.0123abcd.tmp", "masks/.b.png.0123abcd.tmp", ".predictions.csv.0123abcd.tmp"]
    others = [".mine.mp4.0123abcd.tmp", ".b.mp4.tmp", "b.0123abcd.tmp"]
    for name in left + others:
        (out / name).touch()
    assert fill(out, images) == []
    assert not any((out / name).exists() for name in left) and all((out / name).exists() for name in others)


def test_a_full_disk_names_the_file(out):
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*predictions\.jsonl'"),
        Journal(out, SETTINGS) as one,
    ):
        one.stream = open("/dev/full", "ab")  # noqa: SIM115  the journal closes its stream
        one.add(dict(image="a", file="a", modified=None))
    with pytest.raises(OSError, match=r"a\.png"), replaced_file(out / "a.png"):
        raise OSError(errno.ENOSPC, "No space left on device")
