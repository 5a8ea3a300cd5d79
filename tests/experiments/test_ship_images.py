"""Reading and writing ships: run lengths, CSV files, folders of images, and all that is wrong."""

import doctest
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from PIL import Image
from rich.console import Console

from experiments.ships import run_length
from experiments.ships.data import Reading, Source, open_images
from experiments.ships.images import (
    AIRBUS_CSV,
    AIRBUS_FOLDER,
    AIRBUS_SHAPE,
    ImageSet,
    UnreadableImage,
    open_airbus,
    open_masks,
)
from experiments.ships.run_length import decode, encode, write_submission
from tests import DATA
from tests.experiments.submissions import read_submission

SHAPE = (4, 5)


# Run lengths


def test_examples_run():
    assert doctest.testmod(run_length).failed == 0


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_masks_survive_run_lengths(mask):
    np.testing.assert_array_equal(decode(encode(mask), mask.shape), mask)


def test_pixels_count_down_then_right_from_one_and_runs_have_no_order():
    mask = np.zeros(SHAPE, bool)
    mask[3, 0] = mask[0, 1] = mask[2, 4] = True
    assert encode(mask) == "4 2 19 1"
    for text in ("4 2 19 1", "19 1 4 2"):
        np.testing.assert_array_equal(decode(text, SHAPE), mask)
    assert encode(np.zeros(SHAPE)) == ""
    assert not decode("  ", SHAPE).any()


BAD_RUNS = [
    ("1 2 3", "3 numbers, expected pairs"),
    ("1 2.5", "whole numbers .* '2.5'"),
    ("1 99999999999999999999", "whole numbers"),
    ("0 2", "run '0 2' starts before pixel 1"),
    ("-3 2", "run '-3 2' starts before pixel 1"),
    ("3 0", "run '3 0' has no pixels"),
    ("20 2", "run '20 2' ends after the last pixel, 20"),
    ("9223372036854775807 9223372036854775807", "ends after the last pixel"),
    ("3 4 5 1", "run '3 4' overlaps"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_RUNS)
def test_bad_runs_are_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        decode(text, SHAPE)


def test_mask_with_channels_is_refused():
    with pytest.raises(ValueError, match=r"shape \(4, 5, 1\), expected \(height, width\)"):
        encode(np.ones((4, 5, 1)))


# CSV files


def test_submission_reads_back(tmp_path):
    instances = np.zeros(SHAPE, np.int32)
    instances[:2, 1], instances[2:, 1], instances[0, 4] = 1, 2, 3
    written = {"a.jpg": instances, "empty.jpg": np.zeros_like(instances), "b.jpg": instances[::-1]}
    write_submission(tmp_path / "s.csv", written.items())
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[:5] == [
        "ImageId,EncodedPixels",
        "a.jpg,5 2",
        "a.jpg,7 2",
        "a.jpg,17 1",
        "empty.jpg,",
    ]
    read = dict(read_submission(tmp_path / "s.csv", SHAPE))
    assert read.keys() == written.keys()
    for name in written:
        np.testing.assert_array_equal(read[name] > 0, written[name] > 0)
        assert read[name].max() == written[name].max()


def test_a_very_long_row_reads_back(tmp_path):
    ragged = np.indices((400, 400)).sum(axis=0) % 2  # 80,000 runs: more than csv's usual limit
    write_submission(tmp_path / "s.csv", [("a.jpg", ragged)])
    ((_, read),) = read_submission(tmp_path / "s.csv", ragged.shape)
    np.testing.assert_array_equal(read, ragged)


def test_overlaps_go_to_the_first_object(tmp_path):
    (tmp_path / "s.csv").write_text("ImageId,EncodedPixels\na,1 4\na,2 2\na,3 4\n")
    ((_, instances),) = read_submission(tmp_path / "s.csv", SHAPE)
    # The second is hidden by the first, and leaves no gap in the numbers.
    np.testing.assert_array_equal(instances.ravel(order="F")[:7], [1, 1, 1, 1, 2, 2, 0])


def test_columns_are_found_by_name(tmp_path):
    (tmp_path / "s.csv").write_text("\ufeffEncodedPixels,fold,ImageId\r\n1 4,0,a\r\n\r\n", "utf-8")
    ((name, instances),) = read_submission(tmp_path / "s.csv", SHAPE)
    assert name == "a"
    assert instances.sum() == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ImageId,EncodedPixels\na,1 1\nb,20 2\n", "row 3: b: run '20 2' ends after"),
        ("ImageId,EncodedPixels\na,\na,1 1\n", "row 3: a: has a blank row"),
        ("ImageId,EncodedPixels\na,1 1\na,\n", "row 3: a: has a blank row"),
        ("ImageId,EncodedPixels\n,1 1\n", "row 2: no image name"),
        ("ImageId,EncodedPixels\na\n", "row 2: 1 fields, expected 2"),
        ("ImageId,Pixels\na,1 1\n", r"row 1: no column EncodedPixels; the header is \['ImageId'"),
        ("a,1 1\n", "row 1: no column ImageId, EncodedPixels"),
        ("", "no column ImageId, EncodedPixels"),
    ],
)
def test_bad_rows_are_named(tmp_path, text, problem):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"s\.csv, {problem}" if "row" in problem else problem):
        list(read_submission(tmp_path / "s.csv", SHAPE))


# The Airbus folder


def save(path: Path, shape: tuple[int, int] = AIRBUS_SHAPE, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A gradient: a file with something in it to cut off.
    row = np.arange(shape[1]) % 256
    Image.fromarray(np.tile(row.astype(np.uint8), (shape[0], 1))).convert(mode).save(path)
    return path


@pytest.fixture
def airbus(tmp_path) -> Path:
    """Three good images: two ships, no ship, one ship."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        save(tmp_path / AIRBUS_FOLDER / name)
    (tmp_path / AIRBUS_CSV).write_text(
        "ImageId,EncodedPixels\nc.jpg,769 3\na.jpg,1 2 769 2\nb.jpg,\na.jpg,589823 2\n"
    )
    return tmp_path


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def test_airbus_folder(airbus):
    images: ImageSet = open_airbus(airbus, strict=True)
    assert len(images) == 3
    assert [images.has_ships(i) for i in range(3)] == [True, False, True]
    a, b, c = (images[i] for i in range(3))
    assert [a.name, b.name, c.name] == ["a.jpg", "b.jpg", "c.jpg"]
    assert (a.image.shape, a.image.dtype) == ((768, 768, 3), np.uint8)
    assert a.instances.shape == (768, 768)
    expected = np.zeros(AIRBUS_SHAPE)
    expected[:2, :2] = 1
    expected[-2:, -1] = 2
    np.testing.assert_array_equal(a.instances, expected)
    assert not b.instances.any()
    assert c.instances[:3, 1].all()


def test_image_sets_cross_process_borders(airbus):
    images = pickle.loads(pickle.dumps(open_airbus(airbus)))
    assert images[0].instances.max() == 2
    error = pickle.loads(pickle.dumps(UnreadableImage("a.jpg", "is odd")))
    assert (error.name, error.reason, str(error)) == ("a.jpg", "is odd", "a.jpg: is odd")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: cut(path, 0.5), "truncated"),
        (lambda path: cut(path, 0.01), "Truncated"),
        (lambda path: cut(path, 0), "is not an image"),
        (lambda path: path.write_text("<html>404</html>"), "is not an image"),
        (lambda path: save(path, (600, 800)), "is 800x600 pixels .*, and its mask 768x768"),
    ],
)
def test_a_bad_image_names_itself_when_it_is_asked_for(airbus, spoil, reason):
    spoil(airbus / AIRBUS_FOLDER / "b.jpg")
    images = open_airbus(airbus)
    with pytest.raises(UnreadableImage, match=rf"b\.jpg: .*{reason}"):
        images[1]
    assert images[2].name == "c.jpg"


def test_a_missing_file_is_skipped_or_stops_a_strict_run(airbus):
    (airbus / AIRBUS_FOLDER / "b.jpg").unlink()
    reason = f"is in {AIRBUS_CSV}, but not in {AIRBUS_FOLDER}/"
    images = open_airbus(airbus)
    assert images.names == ["a.jpg", "c.jpg"]
    assert images.skipped == [("b.jpg", reason)]
    with pytest.raises(UnreadableImage, match=rf"b\.jpg: {reason}"):
        open_airbus(airbus, strict=True)


def test_what_a_run_leaves_out_is_said(airbus, capsys):
    (airbus / AIRBUS_FOLDER / "b.jpg").unlink()
    found = open_images(Source(data=(airbus,)), Reading(), Console(width=200))
    assert len(found) == 2
    said = capsys.readouterr().out
    assert "2 images" in said
    assert "left out: b.jpg: is in" in said


def test_an_image_without_a_row_is_skipped(airbus):
    save(airbus / AIRBUS_FOLDER / "d.jpg")
    assert open_airbus(airbus).skipped == [("d.jpg", f"has no row in {AIRBUS_CSV}")]
    with pytest.raises(UnreadableImage, match=r"d\.jpg: has no row"):
        open_airbus(airbus, strict=True)


def test_padding_after_the_end_is_no_damage(airbus):
    path = airbus / AIRBUS_FOLDER / "b.jpg"
    path.write_bytes(path.read_bytes() + bytes(500))
    assert open_airbus(airbus)[1].name == "b.jpg"


def test_a_bad_row_stops_the_opening(airbus):
    with (airbus / AIRBUS_CSV).open("a") as file:
        file.write("c.jpg,589824 2\n")
    with pytest.raises(ValueError, match=r"v2\.csv, row 6: c\.jpg: run '589824 2' ends after"):
        open_airbus(airbus)


def test_what_is_missing_is_named(airbus):
    with pytest.raises(FileNotFoundError, match=r"elsewhere is not there"):
        open_airbus(airbus / "elsewhere")
    (airbus / AIRBUS_CSV).rename(airbus / "train.csv")
    with pytest.raises(
        FileNotFoundError, match=rf"no {AIRBUS_CSV} in .*; found train\.csv, train_v2"
    ):
        open_airbus(airbus)
    (airbus / "bare").mkdir()
    with pytest.raises(FileNotFoundError, match=f"no {AIRBUS_FOLDER} in .* found nothing"):
        open_airbus(airbus / "bare")


def test_a_folder_without_a_usable_image_is_refused(airbus):
    for path in (airbus / AIRBUS_FOLDER).iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"no image to use; 3 skipped, first a\.jpg: is in"):
        open_airbus(airbus)


# Folders of images and masks


def save_mask(path: Path, mask: np.ndarray, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask.astype(np.uint8))
    if palette:
        image.putpalette(palette)
    image.save(path)


MASK = np.zeros((6, 8))
MASK[1:3, 1:3] = MASK[4, 5:] = 1


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("x.jpg", "x.png"),
        ("x.jpg", "x_mask.png"),
        ("images/x.png", "masks/x_mask.png"),
        ("train/images/north/x.jpeg", "train/masks/north/x.bmp"),
        ("MT_Blowhole/x.JPG", "MT_Blowhole/x.PNG"),
    ],
)
def test_mask_layouts(tmp_path, image, mask):
    save(tmp_path / "pairs" / image, MASK.shape, "L")
    save_mask(tmp_path / "pairs" / mask, 255 * MASK)
    images = open_masks(tmp_path / "pairs", strict=True)
    assert images.names == [image]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "here").symlink_to(tmp_path / "pairs")
    assert open_masks(tmp_path / "linked", strict=True).names == [f"here/{image}"]
    assert images.has_ships(0)
    assert images[0].image.shape == (6, 8, 3)
    np.testing.assert_array_equal(images[0].instances > 0, MASK)
    assert images[0].instances.max() == 2


@pytest.mark.parametrize(
    ("values", "palette"),
    [
        (MASK, None),
        (255 * MASK, None),
        (np.where(MASK, 228, 30), None),  # what lossy compression leaves
        (MASK, [0, 0, 0, 128, 0, 0]),
        (1 - MASK, [255, 255, 255, 0, 0, 0]),
    ],
)
def test_mask_values(tmp_path, values, palette):
    save(tmp_path / "x.jpg", MASK.shape)
    save_mask(tmp_path / "x.png", values, palette)
    save(tmp_path / "y.jpg", MASK.shape)
    save_mask(tmp_path / "y.png", np.zeros_like(MASK))
    images = open_masks(tmp_path, strict=True)
    np.testing.assert_array_equal(images[0].instances > 0, MASK)
    assert not images.has_ships(1)


@pytest.fixture
def pairs(tmp_path) -> Path:
    """Two images with masks, `good` and `x`."""
    for stem in ("good", "x"):
        save(tmp_path / f"{stem}.jpg", MASK.shape)
        save_mask(tmp_path / f"{stem}.png", MASK)
    return tmp_path


@pytest.mark.parametrize(
    ("spoil", "name", "reason"),
    [
        (lambda d: save(d / "y.jpg"), "y.jpg", r"has no mask: y\.png or y_mask\.png"),
        (lambda d: save_mask(d / "masks/y.png", MASK), "masks/y.png", "is a mask without an image"),
        (lambda d: cut(d / "x.png", 0.6), "x.png", "truncated"),
        (lambda d: save_mask(d / "x.png", 7 * MASK), "x.png", "values up to 7, expected 0/1"),
        (lambda d: save(d / "x.png", (6, 8), "I;16"), "x.png", "mode I;16, expected 8-bit"),
        (lambda d: save(d / "x_mask.png", (6, 8)), "x.jpg", r"one of x\.jpg, x\.png, x_mask\.png"),
    ],
)
def test_a_bad_pair_is_skipped_or_stops_a_strict_run(pairs, spoil, name, reason):
    spoil(pairs)
    images = open_masks(pairs)
    assert images.skipped[0][0] == name
    assert "good.jpg" in images.names
    with pytest.raises(UnreadableImage, match=f"{name}: .*{reason}"):
        open_masks(pairs, strict=True)


@pytest.mark.parametrize(
    ("spoil", "name", "reason"),
    [
        (
            lambda d: save_mask(d / "x.png", np.eye(6, 9)),
            "x.jpg",
            "is 8x6 pixels .*, and its mask 9x6",
        ),
        (lambda d: cut(d / "x.jpg", 0.8), "x.jpg", "Truncated"),
    ],
)
def test_a_bad_image_of_a_pair_names_itself_when_it_is_asked_for(pairs, spoil, name, reason):
    spoil(pairs)
    with pytest.raises(UnreadableImage, match=f"{name}: .*{reason}"):
        open_masks(pairs)[1]


def test_masks_of_a_missing_or_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"elsewhere is not there"):
        open_masks(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"no image to use; 0 skipped. Expected train_v2/"):
        open_masks(tmp_path)


# Real data


@pytest.mark.skipif(not (DATA / "magnetic_tile").is_dir(), reason="the tiles are not there")
def test_magnetic_tiles():
    images = open_masks(DATA / "magnetic_tile", strict=True)
    assert not [n for i, n in enumerate(images.names) if images.has_ships(i) == ("Free" in n)]
