"""What the speakers experiment hears: features, recordings, the protocol, generated voices."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from experiments.shared import commands
from experiments.speakers import features, measure, protocol, recordings, voices
from tests import DATA, ROOT

RATE = 8000
RECORDED = ROOT / "tests" / "recorded" / "librosa_mel.npz"
SPEECH = DATA / "librispeech"
rng = np.random.default_rng(0)


# --- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000])
def test_features_are_those_of_librosa(rate: int):
    with np.load(RECORDED) as file:
        signal, mel, mfcc = (file[f"{name}_{rate}"] for name in ("signal", "mel", "mfcc"))
    power = features.mel_power(signal / np.float32(2**15), rate)
    np.testing.assert_allclose(power, mel, rtol=1e-4, atol=1e-6 * mel.max())
    np.testing.assert_allclose(features.log_mel(power), features.log_mel(mel), atol=1e-4)
    np.testing.assert_allclose(features.mfcc(power), mfcc, atol=1e-2)  # of hundreds of decibels


def test_a_signal_longer_than_a_program_is_cut_without_a_seam(monkeypatch):
    signal = rng.normal(size=RATE // 4).astype(np.float32)
    whole = features.mel_power(signal, RATE)
    monkeypatch.setattr(features, "AT_ONCE", 7)
    np.testing.assert_allclose(features.mel_power(signal, RATE), whole, rtol=1e-6)


@pytest.mark.parametrize("shape", [(0,), (10, 2)])
def test_features_want_one_channel(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"non-empty \[samples\]"):
        features.mel_power(np.zeros(shape, np.float32), RATE)


# --- recordings -----------------------------------------------------------------------------------


def write_sound(path: Path, signal: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, rate)


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


def test_a_tree_and_an_index_are_the_same_recordings(tmp_path: Path):
    for speaker, name in (("anna", "b/2.wav"), ("anna", "1.flac"), ("ben", "x.wav")):
        write_sound(tmp_path / "tree" / speaker / name, tone(1.0))
    tree = recordings.read_folder(tmp_path / "tree", rate=RATE, shortest=0.4)
    assert [(each.name, each.speaker) for each in tree.recordings] == [
        ("anna/1.flac", "anna"), ("anna/b/2.wav", "anna"), ("ben/x.wav", "ben"),
    ]  # fmt: skip
    listed = "file,speaker\n" + "".join(f"{e.name},{e.speaker}\n" for e in tree.recordings)
    (tmp_path / "tree" / "index.csv").write_text(listed)
    index = recordings.read_folder(tmp_path / "tree", rate=RATE, shortest=0.4)
    assert [(e.name, e.speaker) for e in index.recordings] == [
        (e.name, e.speaker) for e in tree.recordings
    ]


def test_rates_and_channels_come_to_one(tmp_path: Path):
    both = np.stack([tone(0.5, 16000), np.zeros(8000)], axis=1)
    write_sound(tmp_path / "anna" / "stereo.wav", both, 16000)
    (found,) = recordings.read_folder(tmp_path, rate=RATE, shortest=0.4).recordings
    middle = slice(400, -400)  # the filter rings at the ends
    np.testing.assert_allclose(found.signal[middle], 0.5 * tone(0.5)[middle], atol=0.005)


def test_what_cannot_be_used_is_named_and_left_out(tmp_path: Path, capsys):
    write_sound(tmp_path / "anna" / "good.wav", tone(2.5))
    write_sound(tmp_path / "anna" / "short.wav", tone(0.1))
    write_sound(tmp_path / "anna" / "silent.wav", np.zeros(RATE))
    write_sound(tmp_path / "anna" / "none.wav", np.zeros(0))
    soundfile.write(tmp_path / "anna" / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    (tmp_path / "anna" / "text.flac").write_text("no sound")
    rows = ["file,speaker"] + [f"{p.relative_to(tmp_path)},a" for p in tmp_path.rglob("*.*")]
    (tmp_path / "index.csv").write_text("\n".join([*rows, "gone.wav,a", ""]))
    found = recordings.read_folder(tmp_path, rate=RATE, shortest=0.4)
    assert [each.name for each in found.recordings] == ["anna/good.wav"]
    reasons = {Path(name).name: reason for name, reason in found.skipped}
    assert reasons.keys() == {
        "short.wav", "silent.wav", "none.wav", "nan.wav", "text.flac", "gone.wav",
    }  # fmt: skip
    assert reasons["short.wav"] == "0.10 s, shorter than 0.40 s"
    assert "finite" in reasons["nan.wav"]
    assert "cannot be read" in reasons["gone.wav"]
    commands.tell_left_out(found.skipped, Console())
    assert "left out 6 in all" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("path,speaker\nx.wav,a\n", "must have the columns file and speaker, has path, speaker"),
        ("file,speaker\n,a\n", "line 2: file or speaker is empty"),
        ("file,speaker\nx.wav,a\n", "no recording that can be used: 1 were left out, the first"),
        (None, r"expected index.csv with the columns file,speaker, or speaker/name"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, index: str | None, message: str):
    if index is not None:
        (tmp_path / "index.csv").write_text(index)
    with pytest.raises(recordings.UnusableRecordings, match=message):
        recordings.read_folder(tmp_path, rate=RATE, shortest=0.4)
    with pytest.raises(FileNotFoundError, match="not a folder"):
        recordings.read_folder(tmp_path / "nowhere", rate=RATE, shortest=0.4)


# --- protocol -------------------------------------------------------------------------------------


def collection(*seconds: float, speaker: str = "anna") -> recordings.Collection:
    made = (
        recordings.Recording(f"{k:02d}", speaker, np.full(round(s * RATE), k + 1, np.float32))
        for k, s in enumerate(seconds)
    )
    return recordings.Collection(tuple(made), RATE)


def test_one_recording_is_split_in_time_and_several_by_name():
    (one,) = protocol.voices(collection(4.0), 40)
    assert (len(one.first), len(one.second)) == (321, 80)
    (ten,) = protocol.voices(collection(*[0.5] * 10), 40)
    assert (len(ten.first), len(ten.second)) == (8 * 51, 2 * 51)
    (two,) = protocol.voices(collection(0.5, 1.0), 40)
    assert (len(two.first), len(two.second)) == (51, 101)


def test_a_speaker_without_two_utterances_stops_and_says_what_is_needed():
    message = r"anna has 1 recording of 1.51 s .* two recordings, or one of at least 2.00 s"
    with pytest.raises(recordings.UnusableRecordings, match=message):
        protocol.voices(collection(1.5), 40)


def test_parts_share_no_speaker_and_too_few_are_refused():
    speakers = protocol.voices(collection(4.0), 40) * 20
    every = [each._replace(speaker=str(k)) for k, each in enumerate(speakers)]
    dealt = protocol.deal(every, (8, 5, 4), seed=3)
    parts = dealt.train, dealt.dev, dealt.test
    assert [len(each) for each in parts] == [8, 5, 4]
    assert len({each.speaker for part in parts for each in part}) == 17
    with pytest.raises(recordings.UnusableRecordings, match=r"16 speakers .* 8 \+ 5 \+ 4 = 17"):
        protocol.deal(every[:16], (8, 5, 4), seed=3)


def test_batches_are_a_function_of_seed_and_step_and_every_segment_is_its_speakers():
    speech = [np.full((30 + k, 3), k, np.float32) for k in range(6)]
    batches = protocol.Batches(speech, 4, 2, 25, 5, seed=1)
    every = list(batches(0))
    assert len(every) == 5
    for first, again in zip(every[2:], batches(2), strict=True):
        np.testing.assert_array_equal(first["segments"], again["segments"])
    for batch in every:
        ids = batch["speakers"]
        assert batch["segments"].shape == (8, 25, 3)
        np.testing.assert_array_equal(ids[::2], ids[1::2])
        assert len(set(ids)) == 4
        np.testing.assert_array_equal(batch["segments"][:, :, 0], np.tile(ids, (25, 1)).T)


def test_segments_overlap_by_half():
    found = protocol.segments(np.arange(100.0)[:, None], 40)
    np.testing.assert_array_equal(found[:, 0, 0], [0, 20, 40, 60])
    assert found.shape == (4, 40, 1)


def test_a_faster_voice_is_shorter_and_higher():
    signal = np.asarray(tone(1.0), np.float32)
    made = recordings.Collection((recordings.Recording("a", "a", signal),), RATE)
    (voice,) = protocol.voices(made, 13)
    fast = voice.at_speed(1.1)
    assert len(fast) == pytest.approx(len(voice.at_speed(1.0)) / 1.1, abs=2)
    peaks = [int(x.mean(0).argmax()) for x in (voice.at_speed(1.0), fast)]
    higher = 0.5 * np.sin(2 * np.pi * 484 * np.arange(RATE) / RATE)
    assert peaks[1] == features.mel_power(higher, RATE).mean(0).argmax() > peaks[0]


def test_generated_voices_differ_more_between_than_within():
    made = protocol.voices(voices.generate(6, 3.0, RATE), 40)
    utterances = np.stack([features.mfcc(u).mean(0)[1:] for v in made for u in v[1:3]])
    spread = measure.spread(utterances - utterances.mean(0), np.repeat(np.arange(6), 2))
    assert spread["same"] < 0.5 * spread["different"]


# --- the real recordings --------------------------------------------------------------------------


@pytest.mark.skipif(not SPEECH.exists(), reason="the recordings of LibriSpeech are not here")
def test_librispeech_is_read_by_its_index():
    with (SPEECH / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["speaker"] for row in rows}) == len(rows)
    sound = recordings.read_sound(SPEECH / rows[0]["file"], RATE)
    assert len(sound) == pytest.approx(RATE * float(rows[0]["seconds"]), abs=RATE // 50)
