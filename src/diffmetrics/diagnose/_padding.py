"""The third argument of a loss of sequences: which elements are real, and which are padding."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

# Words of names such as `loss_mask`, `is_valid`, `sample_weight`, `key_padding_mask`.
WEIGHTS = {"weight", "weights"}
PADDINGS = {"pad", "pads", "padding", "paddings"}
MASKS = {"mask", "masks", "where", "valid", *WEIGHTS, *PADDINGS}
OF_CLASSES = {"class", "classes", "pos", "positive", "neg", "negative"}  # `pos_weight` is a number


@dataclasses.dataclass(frozen=True)
class Mask:
    """How a loss takes it.

    Attributes:
      name: what the loss calls it.
      length: of the sequences, if a form holds their elements one after the other.
      dtype: as which it is given.
      marks_padding: whether it is true where there is padding.
    """

    name: str
    length: int | None = None
    dtype: str = "bool"
    marks_padding: bool = False

    @property
    def words(self) -> set[str]:
        """Those of its name."""
        return set(self.name.lower().split("_"))

    @property
    def weighs(self) -> bool:
        """Whether it weighs, and says nothing of padding: 0 is one weight among others."""
        return bool(self.words & WEIGHTS) and not self.words & (MASKS - WEIGHTS)

    @property
    def says_padding(self) -> bool:
        """Whether it is named so that both meanings are usual."""
        return bool(self.words & PADDINGS)

    def apart(self, array: Any) -> Any:
        """Elements that lie one after the other, as sequences."""
        return array.reshape(-1, self.length, *array.shape[1:]) if self.length else array

    def of(self, real: np.ndarray) -> np.ndarray:
        """What the loss is given for the real ones."""
        return np.asarray(real != self.marks_padding, self.dtype)


def is_mask(name: str) -> bool:
    """Whether the third argument of a loss is one, by its name."""
    words = set(name.lower().split("_"))
    return bool(words & MASKS) and not words & OF_CLASSES
