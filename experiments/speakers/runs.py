"""One run: trained, read again and judged, and who speaks in a folder that nobody has labelled."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from experiments.shared import commands, study, training
from experiments.shared.settings import require_within
from experiments.speakers import clustering, experiment, features, protocol, recordings, report
from experiments.speakers.backend import Whitening
from experiments.speakers.clustering import Linkage
from experiments.speakers.experiment import Settings
from experiments.speakers.hearing import Embed, embeddings
from experiments.speakers.losses import LOSSES


def train(
    settings: Settings, loss: str, seed: int, directory: Path, console: Console, *, resume: bool
) -> None:
    """Train and judge one loss in `directory`, or go on with it; its table stands there, too."""
    (deal,) = protocol.open_deals(settings, [seed], console)
    get_speech = partial(protocol.training_speech, deal.train, settings.speeds)
    find = partial(experiment.train_and_judge, settings, loss, deal, get_speech, console)
    described = experiment.describe(settings, loss, seed)
    result = study.result(directory, described, find, resume=resume)
    report.publish({loss: [result]}, settings, [seed], {loss: directory}, directory, console)


class Trained(NamedTuple):
    settings: Settings
    loss: str
    seed: int
    embed: Embed


def load(directory: Path) -> Trained:
    """The network that was trained in `directory`.

    Raises:
      FileNotFoundError: if there is no run or no checkpoint.
      ValueError: if nothing was trained there, or the training was stopped.
    """
    settings, rest = study.settings_of(directory, Settings)
    loss, seed = rest["loss"], rest["seed"]
    if loss not in LOSSES:
        raise ValueError(f"{directory} holds figures of {loss}, for which nothing is trained")
    zeros = np.zeros(features.BANDS, np.float32)
    graph, state = experiment.initialize(settings, seed, {"mean": zeros, "deviation": zeros})
    state = training.restore(state, directory, steps=experiment.steps_of(settings, loss))
    return Trained(settings, loss, seed, experiment.make_embed(graph, state))


def evaluate(directory: Path, console: Console) -> None:
    """Print and draw figures of a run, judged again on the speakers that it has never heard."""
    settings, loss, seed, embed = load(directory)
    if (directory / study.RESULT).exists():
        study.found(directory)  # which raises if the loss was not finite
    (deal,) = protocol.open_deals(settings, [seed], console)
    result = experiment.judge(settings, embed, deal, directory)
    report.publish({loss: [result]}, settings, [seed], {loss: directory}, directory, console)


def cluster(
    directory: Path,
    folder: Path,
    linkage: Linkage,
    threshold: float | None,
    speakers: int | None,
    console: Console,
) -> list[tuple[str, int]]:
    """Each recording's name, and the number of its cluster, from 1 in the order of names.

    Args:
      directory: of a trained run.
      folder: of recordings, in folders of any names.
      linkage: how clusters are merged.
      threshold: distance up to which they are; default: the one tuned in training.
      speakers: their number, if it is known.
      console: where it is told what was left out.

    Raises:
      FileNotFoundError: if there is no trained run, or no folder.
      ValueError: if there are fewer recordings than speakers, or less than two.
    """
    require_within({"speakers": speakers}, speakers="[1, inf)")
    settings, _, _, embed = load(directory)
    tuned = study.found(directory)["tuned"][linkage]["threshold"]
    shortest = settings.frames * features.HOP_SECONDS
    read = recordings.read_flat(folder, rate=settings.rate, shortest=shortest)
    commands.tell_left_out(read.skipped, console)
    count, least = len(read.recordings), max(2, speakers or 0)
    if count < least:
        raise ValueError(f"{folder} has {count} recordings to cluster, expected at least {least}")
    power = [features.mel_power(recording.signal, read.rate) for recording in read.recordings]
    means = np.stack([segments.mean(0) for segments in embeddings(embed, power, settings.frames)])
    tree = clustering.grow(Whitening.load(directory / "whitening.npz")(means), linkage)
    if speakers is not None:
        clusters = clustering.cut_into(tree, speakers)
    else:
        clusters = clustering.cut(tree, tuned if threshold is None else threshold)
    _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first))[inverse] + 1
    names = [recording.name for recording in read.recordings]
    return list(zip(names, map(int, numbers), strict=True))
