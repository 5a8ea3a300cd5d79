"""Who speaks in a folder of recordings that nobody has labelled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.speakers import backend, clustering, features, recordings, run
from experiments.speakers.clustering import Linkage


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
    _, _, trained = run.load(directory)
    result, white = directory / "result.json", directory / "whitening.npz"
    for needed in (result, white):
        if not needed.exists():
            raise FileNotFoundError(f"{directory} has no {needed.name}: finish its training")
    settings = trained.settings
    shortest = settings.frames * features.HOP_SECONDS
    found = recordings.read_flat(folder, rate=settings.rate, shortest=shortest)
    run.tell_skipped(found.skipped, console)
    count = len(found.recordings)
    if count < max(2, speakers or 0):
        wanted = f"at least {max(2, speakers or 0)}"
        raise ValueError(f"{folder} has {count} recordings to cluster, expected {wanted}")
    if speakers is not None and speakers < 1:
        raise ValueError(f"speakers must be at least 1, got {speakers}")
    spoken = trained([features.mel_power(each.signal, found.rate) for each in found.recordings])
    whitening = backend.Whitening.load(white)
    tree = clustering.grow(whitening(np.stack([each.mean(0) for each in spoken])), linkage)
    if speakers is not None:
        clusters = clustering.cut_into(tree, speakers)
    else:
        tuned = json.loads(result.read_text())["whitened"][linkage]["threshold"]
        clusters = clustering.cut(tree, tuned if threshold is None else threshold)
    _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first))[inverse] + 1
    return [(each.name, int(k)) for each, k in zip(found.recordings, numbers, strict=True)]
