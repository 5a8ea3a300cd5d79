"""The methods that are compared: which network, trained on which loss, and how many of them."""

from __future__ import annotations

import dataclasses
from typing import Literal

from experiments.uncertainty.networks import Design


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a predictor is made: design, loss, members, budget."""

    design: Design = Design()  # noqa: RUF009 - frozen
    loss: Literal["nll", "beta-nll", "crps"] = "nll"
    members: int = 1
    draws: int = 1  # of mean-field weights or dropout masks, to predict with
    kl_per: Literal["row", "batch"] = "row"  # batch: a mistake that is often made
    periods: int = 50  # after each, the held-out rows are looked at
    period: int = 60  # updates
    batch_size: int = 32
    learning_rate: float = 1e-2


METHODS = {
    "single": Recipe(),
    "ensemble": Recipe(members=5),
    "ensemble-beta": Recipe(loss="beta-nll", members=5),
    "ensemble-crps": Recipe(loss="crps", members=5),
    "ensemble-constant": Recipe(Design("plain", "constant"), members=5),
    "dropout": Recipe(Design("dropout"), draws=50),
    "dropout-constant": Recipe(Design("dropout", "constant"), draws=50),
    "vi": Recipe(Design("mean-field"), draws=50, learning_rate=5e-3),
    "vi-constant": Recipe(Design("mean-field", "constant"), draws=50, learning_rate=5e-3),
    "vi-batch": Recipe(Design("mean-field"), draws=50, learning_rate=5e-3, kl_per="batch"),
}
# All but two whose point the table makes with others.
USUAL = tuple(name for name in METHODS if name not in ("ensemble-constant", "dropout-constant"))
