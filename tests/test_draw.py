"""Drawings: everything lies at its place, small images are enlarged, and words stay on the picture."""

import numpy as np
from PIL import Image

from ziggurat.engine.draw import MIN_WIDTH, draw_classes, draw_instances, draw_scores, make_palette, side_by_side

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_small_images_are_enlarged_by_a_whole_number_and_large_ones_kept():
    nothing = np.zeros((0, 4))
    assert draw_instances(Image.new("RGB", (100, 40)), nothing, [], []).size == (500, 200)
    assert draw_instances(Image.new("RGB", (MIN_WIDTH, 40)), nothing, [], []).size == (MIN_WIDTH, 40)


def test_boxes_and_masks_lie_where_they_belong():
    mask = np.zeros((1, 100, 120), bool)
    mask[0, 60:80, 30:50] = True
    drawn = draw_instances(Image.new("RGB", (120, 100)), np.array([[20, 50, 60, 90]]), ["a"], [RED], [0.5], mask)
    pixels = np.asarray(drawn).astype(int)
    scale = drawn.width // 120
    assert tuple(pixels[85 * scale, 20 * scale]) == RED  # the left edge of the box
    assert pixels[70 * scale, 40 * scale, 0] > 100 and pixels[70 * scale, 40 * scale, 2] == 0  # inside the mask
    assert tuple(pixels[85 * scale, 40 * scale]) == (0, 0, 0)  # in the box, outside the mask
    assert tuple(pixels[20 * scale, 100 * scale]) == (0, 0, 0)


def test_a_label_at_the_border_stays_on_the_picture():
    drawn = draw_instances(Image.new("RGB", (600, 400)), np.array([[590, 0, 600, 20]]), ["a long name"], [RED], [0.9])
    reddish = np.asarray(drawn)[:, :, 0] > 200
    assert reddish[:20].sum() > 500  # its plate is inside, where there was no room above


def test_classes_are_tinted_and_unlabelled_pixels_are_not():
    mask = np.full((100, 480), 255)
    mask[:, :100], mask[:, 100:150] = 0, 1
    drawn = np.asarray(draw_classes(Image.new("RGB", (480, 100)), mask, ["a", "b"], [RED, BLUE], opacity=1.0))
    assert tuple(drawn[50, 50]) == RED and tuple(drawn[50, 120]) == BLUE and tuple(drawn[50, 300]) == (0, 0, 0)
    assert len(drawn) > 100  # the legend


def test_bars_are_as_long_as_the_scores():
    drawn = np.asarray(draw_scores(Image.new("RGB", (480, 100)), ["a", "b"], [0.8, 0.2])).astype(int)
    colours = make_palette(2)
    lengths = [(drawn == colour).all(axis=2).sum(axis=1).max() for colour in colours]
    assert abs(lengths[0] / lengths[1] - 4) < 0.3


def test_pictures_side_by_side_have_one_height():
    page = side_by_side(
        [Image.new("RGB", (100, 200), RED), Image.new("RGB", (300, 100), BLUE)], ["left", "right"], gap=10
    )
    assert page.width == 50 + 10 + 300 and page.height > 100
    assert page.getpixel((25, page.height - 1)) == RED and page.getpixel((355, page.height - 1)) == BLUE


def test_a_palette_has_distinct_colours():
    palette = make_palette(150)
    assert len(set(palette)) == 150
    assert all(0 <= value <= 255 for colour in palette for value in colour)
