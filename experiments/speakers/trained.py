"""A trained run, read again: its figures, and who speaks in a folder that nobody has labelled."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from experiments.shared import commands, study, training
from experiments.shared.settings import require_within
from experiments.speakers import clustering, experiment, features, recordings
from experiments.speakers.backend import Whitening
from experiments.speakers.clustering import Linkage
from experiments.speakers.experiment import Settings
from experiments.speakers.hearing import Embed, embeddings
from experiments.speakers.losses import LOSSES
from experiments.speakers.report import Result


class Trained(NamedTuple):
    settings: Settings
    loss: str
    seed: int
    embed: Embed


def load(directory: Path) -> Trained:
    """The network that was trained in `directory`.

    Raises:
      FileNotFoundError: if there is no run or no checkpoint.
      ValueError: if nothing was trained there.
    """
    described = study.described(directory)
    loss, seed = described.pop("loss"), described.pop("seed")
    if loss not in LOSSES:
        raise ValueError(f"{directory} holds figures of {loss}, for which nothing is trained")
    described["data"] = described["data"] and Path(described["data"])
    described["speeds"] = tuple(described["speeds"])
    settings = Settings(**described)
    zeros = np.zeros(features.BANDS, np.float32)
    scale = {"mean": zeros, "deviation": zeros}
    model, state = experiment.initialize(settings, loss, seed, scale)
    return Trained(
        settings, loss, seed, experiment.embedder(model, training.restore(state, directory))
    )


def judge(directory: Path, console: Console) -> tuple[Trained, Result]:
    """Figures of a trained run on the speakers that it has never heard."""
    trained = load(directory)
    if (directory / study.RESULT).exists():
        study.found(directory)  # which raises if the loss was not finite
    (deal,) = experiment.open_deals(trained.settings, [trained.seed], console)
    return trained, experiment.judge(trained.settings, trained.embed, deal, directory)


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
    found = recordings.read_flat(folder, rate=settings.rate, shortest=shortest)
    commands.tell_left_out(found.skipped, console)
    count, least = len(found.recordings), max(2, speakers or 0)
    if count < least:
        raise ValueError(f"{folder} has {count} recordings to cluster, expected at least {least}")
    power = [features.mel_power(each.signal, found.rate) for each in found.recordings]
    means = np.stack([each.mean(0) for each in embeddings(embed, power, settings.frames)])
    tree = clustering.grow(Whitening.load(directory / "whitening.npz")(means), linkage)
    if speakers is not None:
        clusters = clustering.cut_into(tree, speakers)
    else:
        clusters = clustering.cut(tree, tuned if threshold is None else threshold)
    _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first))[inverse] + 1
    return [(each.name, int(k)) for each, k in zip(found.recordings, numbers, strict=True)]
