"""The methods that are compared: which network, trained on which loss, and how many of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax

import diffmetrics as dm
from experiments.uncertainty.networks import Design

# Of the predicted mean and deviation and the target, a value for each row.
LOSSES: dict[str, Callable[..., jax.Array]] = {
    "nll": dm.gaussian_nll,
    "beta-nll": partial(dm.beta_nll, beta=0.5),
    "crps": dm.crps_gaussian,
}


@dataclasses.dataclass(frozen=True)
class Method:
    """What a predictor is made of: design, loss, members."""

    design: Design = Design()  # noqa: RUF009 - frozen
    loss: str = "nll"  # among LOSSES
    members: int = 1
    draws: int = 1  # of mean-field weights or dropout masks, to predict with
    kl_per: Literal["row", "batch"] = "row"  # batch: a mistake that is often made
    learning_rate: float = 1e-2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Method):
    """A method, and for how long it is trained on how many rows."""

    periods: int  # after each, the held-out rows are looked at
    period: int = 60  # updates
    batch_size: int

    @property
    def chunk(self) -> int:
        """Periods between two questions whether to go on: up to a tenth of all, a divisor of it."""
        most = max(1, min(10, self.periods // 10))
        return max(n for n in range(1, most + 1) if self.periods % n == 0)


METHODS = {
    "single": Method(),
    "ensemble": Method(members=5),
    "ensemble-beta": Method(loss="beta-nll", members=5),
    "ensemble-crps": Method(loss="crps", members=5),
    "ensemble-constant": Method(Design("plain", "constant"), members=5),
    "dropout": Method(Design("dropout"), draws=50),
    "dropout-constant": Method(Design("dropout", "constant"), draws=50),
    "vi": Method(Design("mean-field"), draws=50, learning_rate=5e-3),
    "vi-constant": Method(Design("mean-field", "constant"), draws=50, learning_rate=5e-3),
    "vi-batch": Method(Design("mean-field"), draws=50, learning_rate=5e-3, kl_per="batch"),
}
# All but two whose point the table makes with others.
USUAL = tuple(name for name in METHODS if name not in ("ensemble-constant", "dropout-constant"))
