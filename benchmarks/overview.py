"""Nine losses in one chart, on the devices of recorded runs: `python -m benchmarks.overview`.

Nothing is measured here: the times are those of `benchmarks/results/cpu.json` and `gpu.json`.
"""

import json
from pathlib import Path

from benchmarks import report

CHART = Path("docs/images/speed.png")
DEVICES = {"cpu": "two cores of an AMD EPYC", "gpu": "NVIDIA H200"}
# Large arrays, of each kind, whose loss other libraries have too.
LOSSES = (
    ("sigmoid_cross_entropy", "masks"),
    ("sigmoid_focal_loss", "masks"),
    ("dice_loss", "masks"),
    ("softmax_cross_entropy", "class masks"),
    ("softmax_cross_entropy", "class labels"),
    ("dice_loss (softmax)", "class masks"),
    ("kl_divergence", "class masks"),
    ("triplet_loss", "embeddings"),
    ("gaussian_nll", "targets"),
)


def draw(path: Path) -> None:
    """Our time over the floor, and those of the peers, a panel for each device."""
    rows = []
    for name, device in DEVICES.items():
        recorded = json.loads((report.RECORDED / f"{name}.json").read_text())["rows"]
        timed = {(row["loss"], row["workload"], row["dtype"]): row for row in recorded}
        for loss, workload in LOSSES:
            words = {"loss": f"{loss}, {workload}", "workload": device, "goal": None}
            rows.append(timed[loss, workload, "float32"] | words)
    report.draw_panels(
        {"rows": rows}, path, report.floor_panel, "time of value and gradient, over the floor"
    )


if __name__ == "__main__":
    draw(CHART)
    print(f"wrote {CHART}")
