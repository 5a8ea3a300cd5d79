"""What all experiments' commands promise: a mistake is one line, and settings are checked."""

from pathlib import Path
from typing import Any

import pytest

from experiments.ships import __main__ as ships
from experiments.speakers import __main__ as speakers
from experiments.tabular import __main__ as tabular
from experiments.tabular.experiment import Settings as Training
from experiments.text import __main__ as text
from experiments.uncertainty import __main__ as uncertainty
from experiments.uncertainty.experiment import Settings


@pytest.mark.parametrize(
    ("experiment", "arguments", "message"),
    [
        (ships, ["compare", "--losses", "dise"], "no loss is called dise; did you mean dice?"),
        (ships, ["trian"], "no command is called trian; did you mean train?"),
        (ships, ["predict", "nowhere"], "nowhere holds no run"),
        (text, ["compare", "--losses", "focl"], "no loss is called focl; there are cross-entropy,"),
        (text, ["--seeds", "0"], "seeds must be at least 1, got 0"),
        (text, ["train", "--data", "nowhere.csv"], "nowhere.csv"),
        (text, ["predict", "nowhere"], "nowhere holds no run"),
        (
            tabular,
            ["--losses", "soft-f3"],
            "no loss is called soft-f3; did you mean soft-f2 or soft-f1?",
        ),
        (tabular, ["--data", "nowhere.csv"], "there is no file or folder nowhere.csv"),
        (speakers, ["compare", "--losses", "best"], "no loss is called best; there are asked"),
        (speakers, ["--seeds", "0"], "seeds must be at least 1, got 0"),
        (speakers, ["train", "--seed", "-1"], "seed must be at least 0, got -1"),
        (speakers, ["--batch-segments", "3"], "batch_segments must be even, got 3"),
        (speakers, ["--frames", "5"], "frames must be at least 13, got 5"),
        (speakers, ["--speeds", "1.0", "3.0"], "lie in [0.5, 2]"),
        (speakers, ["--batch-speakers", "400"], "batch_speakers must be at most 300"),
        (speakers, ["evaluate", "nowhere"], "nowhere holds no run"),
        (speakers, ["compare", "--data", "nowhere"], "nowhere is not a folder"),
        (
            uncertainty,
            ["uci", "--methods", "bagging"],
            "no method is called bagging; there are single",
        ),
        (uncertainty, ["uci", "--data", "short.txt"], "short has 3 rows; 20 seeds need at least"),
        (uncertainty, ["collapse", "--seeds", "0"], "seeds must be at least 1, got 0"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    experiment: Any, arguments: list[str], message: str, tmp_path: Path, monkeypatch, printed
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("short.txt").write_text("1 2\n2 3\n5 4\n")
    try:
        status = experiment.main(arguments)
    except SystemExit as stopped:
        status = stopped.code
    assert status != 0
    said = printed()
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("settings", "wrong", "message"),
    [
        (
            ships.Settings,
            {"crop": 90},
            r"crop must be a multiple of patch \* 2\*\*depth = 8, got 90",
        ),
        (ships.Settings, {"tile": 12}, "tile must be a multiple"),
        (ships.Settings, {"ship_share": 1.5}, r"ship_share must lie in \[0, 1\], got 1.5"),
        (text.Settings, {"epochs": 0}, "epochs must be at least 1, got 0"),
        (text.Settings, {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        (text.Settings, {"miss_cost": 0.0}, "miss_cost must be above 0, got 0.0"),
        (text.Settings, {"widths": ()}, "widths must be positive"),
        (Training, {"steps": 15, "check_every": 10}, "must divide steps = 15, got 10"),
        (Training, {"learning_rates": (0.0,)}, r"learning_rates must be positive, got \(0.0,\)"),
        (Settings, {"seeds": 0}, "seeds must be at least 1, got 0"),
    ],
)
def test_settings_that_mean_nothing_are_named(settings: Any, wrong: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        settings(**wrong)
