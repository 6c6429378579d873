"""Validation images taken from data without any: by class, by group, the same in every run, and edited."""

from collections import Counter

import pytest
from own_files import picture, text, yolo

from backbones import UserError
from ziggurat.engine.own_data import prepare
from ziggurat.engine.own_data.split import SplitOptions, choose


def images(number, *classes):
    """Images that have the classes in turn, some of them rare."""
    return {f"{i:04d}.jpg": Counter(name for every, name in classes if i % every == 0) for i in range(number)}


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_every_class_has_about_its_share(share):
    found = images(400, (1, "common"), (7, "some"), (20, "rare"), (133, "very rare"))
    chosen = choose(found, SplitOptions(share))
    assert abs(len(chosen) - share * 400) <= 2
    for name in ("common", "some", "rare", "very rare"):
        total = sum(one[name] for one in found.values())
        kept = sum(found[image][name] for image in chosen)
        assert abs(kept - share * total) <= 1.5


def test_the_choice_follows_the_seed_alone():
    found = images(60, (2, "a"), (5, "b"))
    again = dict(reversed(found.items()))
    assert choose(found, SplitOptions(0.3)) == choose(again, SplitOptions(0.3))
    assert choose(found, SplitOptions(0.3)) != choose(found, SplitOptions(0.3, seed=1))


@pytest.mark.parametrize("pattern", [r"^(p\d+)_", r"^p\d+"])
def test_groups_stay_together(pattern):
    found = {f"p{i % 12}_{i}.jpg": Counter({("a", "b")[i % 5 == 0]: 1}) for i in range(120)}
    chosen = choose(found, SplitOptions(0.25, pattern))
    groups = Counter(name.split("_")[0] for name in chosen)
    assert set(groups.values()) == {10} and len(chosen) == 30


def test_a_later_image_of_a_group_goes_with_its_group(tmp_path):
    root, options = data(tmp_path / "mine"), SplitOptions(0.2, r"(\d)[a-z]*\.jpg")
    before = names(read(root, options), "val")
    for name in before:
        picture(root / name.replace(".jpg", "x.jpg"), (40, 40))
    picture(root / "images/11x.jpg", (40, 40))
    found = names(read(root, options), "val")
    assert found - before >= {name.replace(".jpg", "x.jpg") for name in before} and len(before) == 2


def data(root, number=10):
    for i in range(number):
        picture(root / f"images/{i}.jpg", (40, 40))
        text(root / f"labels/{i}.txt", f"{i % 2} 0.5 0.5 0.5 0.5")
    text(root / "classes.txt", "cat", "dog")
    return root


def names(own, split):
    import json

    return {one["file_name"] for one in json.loads(own.files[split].read_text())["images"]}


def read(root, options):
    return prepare(root, split=options, cache=root.parent / "cache")


def test_the_list_is_written_once_and_may_be_edited(tmp_path, capsys):
    root, options = data(tmp_path / "mine"), SplitOptions(0.2)
    own = read(root, options)
    chosen = names(own, "val")
    assert len(chosen) == 2 and len(names(own, "train")) == 8 and not chosen & names(own, "train")
    (file,) = tmp_path.glob("cache/*/val_images_0.2.txt")
    assert f"2 of 10 images are for validation; {file} lists them" in capsys.readouterr().err
    assert {line for line in file.read_text().splitlines() if not line.startswith("#")} == chosen
    picture(root / "images/new.jpg", (40, 40))
    own = read(root, options)
    assert names(own, "val") == chosen and "images/new.jpg" in names(own, "train")  # a later image is trained on
    text(file, "images/new.jpg", "", "# a remark", "images/3.jpg")
    assert names(read(root, options), "val") == {"images/new.jpg", "images/3.jpg"}
    text(file, "images/gone.jpg")
    with pytest.raises(UserError, match=r"no images images/gone\.jpg in"):
        read(root, options)
    other = read(root, SplitOptions(0.5))  # another share has another list
    assert len(names(other, "val")) in (5, 6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (SplitOptions(0), "val_share=0; allowed: a number between 0 and 1"),
        (SplitOptions(True), "val_share=True; allowed"),
        (SplitOptions(0.2, "("), "val_group='(': "),
        (SplitOptions(0.2, "a", 1.5), "val_seed=1.5; allowed: an integer"),
    ],
)
def test_options_of_a_split_are_checked(options, words):
    with pytest.raises(UserError) as caught:
        options.check()
    assert words in str(caught.value)


def test_a_share_that_leaves_nothing_is_refused(tmp_path):
    with pytest.raises(
        UserError, match="0 of 2 images are for validation; allowed: one or more, and one or more to tra"
    ):
        read(data(tmp_path / "mine", 2), SplitOptions(0.01))
    with pytest.raises(UserError, match=r"has validation images, and val_share is 0\.5"):
        read(yolo(tmp_path / "both"), SplitOptions(0.5))
    assert not list(tmp_path.glob("cache/*/val_images*"))
