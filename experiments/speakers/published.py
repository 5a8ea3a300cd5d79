"""What others have published on the clustering of 40 speakers of TIMIT.

It is the protocol of this experiment on other data: read sentences, ten a speaker, of which eight
and two make the utterances. TIMIT is not free, so it was not run here.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    method: str
    rate: str
    """Misclassification rate, at the best threshold for the test speakers."""
    source: str
    checked: bool
    """Whether the figure was found in the source itself or reproduced."""

    def __str__(self) -> str:
        doubt = "" if self.checked else "; quoted, not checked in the paper"
        return f"{self.method}: MR {self.rate} ({self.source}{doubt})"


PUBLISHED = (
    Published("MFCC, Gaussian mixture", "0.125 to 0.13", "in Stadelmann et al., 2018", False),
    Published("support vectors", "0.0625", "in Stadelmann et al., 2018", False),
    Published(
        "convolutional network, 590 training speakers", "0.05",
        "Lukic et al., 2016, as the authors' code says", True,
    ),
    Published("the same, KL hinge, 100 training speakers", "0.0375", "Lukic et al., 2017", False),
    Published(
        "BiLSTM, KL hinge, 100 training speakers", "0.022 in the mean of runs",
        "Stadelmann et al., 2018", False,
    ),
    Published(
        "VGGVox, trained on 1,251 speakers, dominant sets", "0.000",
        "Hibraj et al., 2018, reproduced from their embeddings", True,
    ),
)  # fmt: skip
