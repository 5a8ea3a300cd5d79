"""What a ship network is fed: folders, split, crops, their augmentation, and the cache."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from experiments.ships import cache, data, pipeline
from experiments.ships.augmentation import augment, relight
from experiments.ships.data import Reading
from experiments.ships.experiment import Settings
from experiments.ships.folders import Folders, open_folders
from experiments.ships.images import AIRBUS_CSV, AIRBUS_FOLDER, Example, ImageFolder, open_masks
from experiments.ships.scenes import Scenes
from experiments.ships.splits import Split, split
from experiments.ships.throughput import PASSES, crops_per_second
from tests import DATA

SCENES = pipeline.Images(Scenes(count=40, size=64))


# --- folders --------------------------------------------------------------------------------------


def masked(folder: Path, names: str, shape: tuple[int, int] = (40, 50)) -> Path:
    """Grey images, those with names in upper case with an object."""
    folder.mkdir(exist_ok=True)
    for k, name in enumerate(names):
        grey = np.random.default_rng([k, *folder.name.encode()]).integers(0, 256, shape, np.uint8)
        Image.fromarray(grey).save(folder / f"{name}.jpg")
        mask = np.zeros(shape, np.uint8)
        mask[3:6, 4:9] = 255 * name.isupper()
        Image.fromarray(mask).save(folder / f"{name}.png")
    return folder


def test_folders_of_both_layouts_serve_together_and_keep_their_names_apart(tmp_path):
    (tmp_path / "airbus" / AIRBUS_FOLDER).mkdir(parents=True)
    Image.new("RGB", (768, 768)).save(tmp_path / "airbus" / AIRBUS_FOLDER / "A.jpg")
    (tmp_path / "airbus" / AIRBUS_CSV).write_text("ImageId,EncodedPixels\nA.jpg,1 2\n")
    roots = [tmp_path / "airbus", masked(tmp_path / "one", "Ab"), masked(tmp_path / "two", "Ac")]
    found = open_folders(roots[:2], roots[2:], strict=True)
    names = [found[i].name for i in range(len(found))]
    assert names == ["airbus/A.jpg", "one/A.jpg", "one/b.jpg", "two/A.jpg", "two/c.jpg"]
    assert [found.has_ships(i) for i in range(5)] == [True, True, False, True, False]
    assert found.labelled == 3
    assert len(set(found.scenes)) == 5
    assert open_folders(roots[1:2])[0].name == "A.jpg"
    with pytest.raises(ValueError, match=r"must name a folder once, and name .*one more often"):
        open_folders(roots[1:], roots[1:2])


def test_scenes_are_read_where_a_folder_tells_of_them(tmp_path):
    root = masked(tmp_path / "one", "ABC")
    (root / "scenes.csv").write_text("ImageId,BigImageId\nA.jpg,7\nC.jpg,7\n")
    assert open_folders([root]).scenes.tolist() == [0, 1, 0]
    (root / "scenes.csv").write_text("image,scene\nA.jpg,7\n")
    with pytest.raises(ValueError, match=r"scenes\.csv has no column ImageId, BigImageId"):
        open_folders([root])


# --- split ----------------------------------------------------------------------------------------


def test_images_that_look_alike_are_one_scene(tmp_path):
    root, rng = masked(tmp_path / "one", "ABCD", (200, 240)), np.random.default_rng(9)
    image = np.asarray(Image.open(root / "A.jpg"), float)
    light = np.linspace(0, 60, 240)  # another exposure, and the light falls from one side
    Image.fromarray((0.5 * image + light).astype(np.uint8)).save(root / "C.jpg")
    noise = rng.integers(0, 80, (200, 240)) + light
    Image.fromarray(noise.astype(np.uint8)).save(root / "D.jpg")
    (root / "B.jpg").write_bytes(b"broken")
    assert open_folders([root]).scenes.tolist() == [0, 1, 0, 2]


def foldered(full: list[bool], scenes: list[str], labelled: int) -> pipeline.Images:
    names = [str(i) for i in range(len(full))]
    folder = ImageFolder(Path(), names, full, lambda _: np.zeros((1, 1)), [])
    return pipeline.Images(Folders([folder], [len(full)], np.array(scenes), labelled))


def test_five_seeds_test_every_image_once_and_no_scene_stands_on_two_sides():
    rng = np.random.default_rng(0)
    full = (rng.random(150) < 0.4).tolist()
    scenes = [f"scene {k}" for k in rng.integers(0, 90, 120)] + [f"weak {k}" for k in range(29)]
    everything = [*scenes, scenes[0]]  # the last one shows what the first does
    images = foldered(full, everything, labelled=120)
    parts = [split(images, seed) for seed in range(10)]
    for division in (parts[:5], parts[5:]):
        tested = itertools.chain.from_iterable(part.test for part in division)
        assert sorted(tested) == list(range(120))
    assert parts[0].test != parts[5].test
    for part in parts:
        sides = [{everything[i] for i in side} for side in vars(part).values()]
        assert not any(a & b for a, b in itertools.combinations(sides, 2))
        assert set(range(120, 149)) <= set(part.train)
        assert len({*part.train, *part.validation, *part.test}) >= 149
        assert len(part.validation) / (150 - 29 - len(part.test)) == pytest.approx(0.25, abs=0.07)
        for side in (part.validation, part.test):
            assert max(side) < 120
            assert abs(np.mean(np.array(full)[side]) - np.mean(full)) < 0.25


def test_generated_scenes_are_divided_once():
    parts = split(SCENES, 0)
    assert parts == split(SCENES, 1)
    assert sorted([*parts.train, *parts.validation, *parts.test]) == list(range(40))
    share = np.mean([SCENES.has_ships(i) for i in range(40)])
    for part in (parts.train, parts.validation, parts.test):
        assert abs(np.mean([SCENES.has_ships(i) for i in part]) - share) < 0.15


def test_a_part_without_ships_is_refused():
    images = foldered([True] * 3 + [False] * 20, [str(i) for i in range(23)], labelled=23)
    with pytest.raises(ValueError, match=r"part of seed 0 would have no .*: 3 of 23 images have"):
        split(images, 0)


# --- crops ----------------------------------------------------------------------------------------


def take(start: int, steps: int, ship_share: float = 0.5, workers: int = 0) -> list[pipeline.Batch]:
    options = {"seed": 3, "batch_size": 4, "crop": 32, "ship_share": ship_share}
    members = split(SCENES, 0).train
    return list(
        pipeline.batches(SCENES, members, steps=steps, start=start, workers=workers, **options)
    )


def test_a_batch_depends_on_seed_and_step_alone():
    whole = take(0, 5)
    for workers in (0, 1):  # a second process costs seconds
        rest = take(3, 5, workers=workers)
        assert len(rest) == 2
        for a, b in zip(whole[3:], rest, strict=True):
            np.testing.assert_array_equal(a["image"], b["image"])
            np.testing.assert_array_equal(a["mask"], b["mask"])


def test_ship_share_decides_how_many_crops_show_ships():
    assert all(batch["mask"].any((1, 2)).all() for batch in take(0, 5, ship_share=1.0))
    shown = np.mean([batch["mask"].any((1, 2)) for batch in take(0, 10, ship_share=0.0)])
    assert shown < 0.4


def test_crops_of_small_images_are_padded():
    example = Example("a", np.ones((20, 50, 3), np.uint8), np.ones((20, 50), np.int32))
    crop = pipeline._crop(example, 32, np.random.default_rng(0), on_ship=True)
    assert crop["image"].shape == (32, 32, 3)
    assert crop["mask"].all()


def test_rates_are_of_successive_passes():
    settings = Settings(batch_size=4, crop=32, ship_share=0.5)
    rates = list(crops_per_second(settings, Reading(), SCENES, list(range(8))))
    assert len(rates) == PASSES
    assert min(rates) > 0


# --- augmentation ---------------------------------------------------------------------------------


def test_augmentation_turns_image_and_mask_alike():
    mask = np.random.default_rng(0).random((64, 8, 8)) > 0.5
    image = np.repeat(mask[..., None], 3, -1).astype(np.uint8)
    key, augmented = jax.random.key(0), jax.jit(augment, static_argnames="photometric")
    turned, turned_mask = augmented(key, image, mask, photometric=False)
    np.testing.assert_array_equal(turned[..., 0], turned_mask)
    kinds = dict.fromkeys(range(8), 0)
    for before, after in zip(mask, np.asarray(turned_mask), strict=True):
        symmetries = [np.rot90(m, k) for m in (before, before.T) for k in range(4)]
        matches = [k for k, s in enumerate(symmetries) if np.array_equal(s, after)]
        assert len(matches) == 1
        kinds[matches[0]] += 1
    assert min(kinds.values()) > 0
    lit, lit_mask = augmented(key, image, mask, photometric=True)
    assert lit.shape == image.shape
    np.testing.assert_array_equal(lit_mask, turned_mask)


def test_another_light_differs_by_crop_and_keeps_what_is_brighter_and_grey():
    ramp = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (6, 4, 1))[..., None].repeat(3, -1)
    ramp[3:, ..., 2] //= 2  # three grey crops, three that are not
    lit = np.asarray(jax.jit(relight)(jax.random.key(0), ramp))
    assert lit.dtype == np.float32
    assert lit.min() >= 0
    assert lit.max() <= 255
    assert (np.diff(lit, axis=2) >= 0).all()
    assert np.ptp(lit[:3], axis=-1).max() == 0
    assert len({each.tobytes() for each in lit}) == 6
    assert 3 < np.abs(lit - ramp).mean() < 60


# --- cache ----------------------------------------------------------------------------------------


def test_images_are_kept_in_memory_unless_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "KEPT_IMAGES", 1)
    console = Console(quiet=True)
    for names, kept in (("A", True), ("Abcdefghijkl", False)):
        root = masked(tmp_path / names, names, shape=(9, 9))
        images = data.open_images(Settings(data=(root,)), Reading(), console)
        assert (images.read(0) is images.read(0)) == kept


def test_a_cached_image_is_the_image_until_its_file_changes(tmp_path):
    root, kept = masked(tmp_path / "one", "A"), tmp_path / "cache"
    (plain,) = open_masks(root)
    for _ in range(2):
        (found,) = open_masks(root, cache=kept)
        np.testing.assert_array_equal(found.image, plain.image)
        np.testing.assert_array_equal(found.instances, plain.instances)
    files = list(kept.iterdir())
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:150])  # a power cut
    np.testing.assert_array_equal(open_masks(root, cache=kept)[0].image, plain.image)
    Image.new("L", (50, 40), 200).save(root / "A.jpg")
    assert open_masks(root, cache=kept)[0].image.min() > 190


def test_a_full_disk_is_one_warning(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(cache, "_full", set())
    images = open_masks(masked(tmp_path / "one", "AB"), cache=tmp_path / "cache")
    with pytest.warns(UserWarning, match=r"cache takes no more images.*5% of the disk") as caught:
        assert [example.instances.max() for example in images] == [1, 1]
    assert len(caught) == 1
    assert not list((tmp_path / "cache").iterdir())


# --- real data ------------------------------------------------------------------------------------


@pytest.mark.skipif(not (DATA / "infrared_targets").is_dir(), reason="the targets are not there")
def test_crops_of_infrared_images_show_their_few_pixels():
    images = pipeline.Images(open_folders([DATA / "infrared_targets"], strict=True))
    assert len(images) == 400
    parts: Split = split(images, 0)
    options: Any = {"seed": 0, "steps": 2, "batch_size": 16, "crop": 96}
    near = list(pipeline.batches(images, parts.train, ship_share=1.0, **options))
    assert all(batch["mask"].any((1, 2)).all() for batch in near)
    empty = [i for i in parts.train if not images.has_ships(i)]
    assert not any(
        b["mask"].any() for b in pipeline.batches(images, empty, ship_share=0.0, **options)
    )
