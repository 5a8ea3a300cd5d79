"""Drawn scenes: reproducible, labelled, and as unbalanced as the challenge."""

import numpy as np
import pytest

from experiments.ships.scenes import Scenes


@pytest.fixture(scope="module")
def drawn():
    scenes = Scenes(count=150, seed=3)
    return scenes, [scenes[i] for i in range(len(scenes))]


def test_a_scene_depends_on_seed_and_index_alone(drawn):
    _, examples = drawn
    again = Scenes(count=10_000, seed=3)[17]
    np.testing.assert_array_equal(again.image, examples[17].image)
    np.testing.assert_array_equal(again.instances, examples[17].instances)
    assert again.name == examples[17].name
    assert not np.array_equal(Scenes(count=150, seed=4)[17].image, examples[17].image)
    assert not np.array_equal(examples[18].image, examples[17].image)


def test_ships_are_numbered_without_gaps():
    crowded = Scenes(count=40, size=64, seed=5, empty_share=0)
    for i in range(len(crowded)):
        instances = crowded[i].instances
        np.testing.assert_array_equal(np.unique(instances), np.arange(instances.max() + 1))
        assert instances.max() >= 1


def test_ships_are_as_rare_as_in_the_challenge(drawn):
    scenes, examples = drawn
    full = [bool(example.instances.any()) for example in examples]
    assert full == [scenes.has_ships(i) for i in range(150)]  # which draws nothing
    assert np.mean(full) == pytest.approx(0.22, abs=0.08)
    assert not any(Scenes(count=50, empty_share=1).has_ships(i) for i in range(50))
    share = np.mean([np.mean(example.instances > 0) for example in examples])
    assert 0.001 < share < 0.005


def test_no_brightness_threshold_finds_the_ships(drawn):
    _, examples = drawn
    grey = np.stack([example.image.mean(-1) for example in examples])
    ships = np.stack([example.instances > 0 for example in examples])
    edges = np.arange(257)
    predicted = np.histogram(grey, edges)[0][::-1].cumsum()
    found = np.histogram(grey[ships], edges)[0][::-1].cumsum()
    f1 = 2 * found / (predicted + ships.sum())
    assert f1.max() < 0.35


@pytest.mark.parametrize("size", [64, 129, 768])
def test_scenes_come_in_any_size(size):
    example = Scenes(count=1, size=size, empty_share=0)[0]
    assert example.image.shape == (size, size, 3)
    assert example.image.dtype == np.uint8
    assert example.instances.shape == (size, size)
    assert example.instances.dtype == np.int32


def test_what_no_set_of_scenes_has_is_refused():
    with pytest.raises(IndexError, match="scene 4 of a set of 4"):
        Scenes(count=4)[4]
    with pytest.raises(IndexError):
        Scenes(count=4).has_ships(-1)
    with pytest.raises(ValueError, match="size is 32"):
        Scenes(count=1, size=32)
    with pytest.raises(ValueError, match="empty_share is 78"):
        Scenes(count=1, empty_share=78)
