"""Texts before any network: readers and their errors, splits, words, vectors, batches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments.text import corpus, messages, pipeline, vectors, words
from experiments.text.words import PAD, UNKNOWN
from tests import DATA

REAL = DATA / "text"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- readers --------------------------------------------------------------------------------------


def test_a_csv_may_quote_and_a_tsv_does_not(tmp_path: Path):
    table = write(tmp_path / "a.csv", 'id,text,label\n1,"a, ""b""\nc",x\n2,d,y\n3,e,y\n')
    found = corpus.read_table(table)
    assert found.texts == ['a, "b"\nc', "d", "e"]
    assert found.classes == ("y", "x")  # the less frequent one is to be found
    np.testing.assert_array_equal(found.labels, [True, False, False])
    tabs = write(tmp_path / "a.tsv", '\ufefftext\tlabel\n"a\tx\nb\ty\nc\tz\n')
    found = corpus.read_table(tabs, rare="y")
    assert found.texts == ['"a', "b", "c"]
    assert found.classes == ("not y", "y")


def test_rows_without_text_or_label_are_named_or_stop_the_run(tmp_path: Path):
    table = write(tmp_path / "a.csv", "text,label\na,x\n  ,y\nb\nc,y\nd,y\n")
    found = corpus.read_table(table)
    assert found.texts == ["a", "c", "d"]
    assert found.skipped == (
        ("a.csv, line 3", "column 'text' is empty"),
        ("a.csv, line 4", "column 'label' is missing"),
    )
    with pytest.raises(ValueError, match=r"a\.csv, line 3: column 'text' is empty"):
        corpus.read_table(table, strict=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,label\nsecret,x\nsecret\xe9,y\n", "line 3: byte 0xe9 is not UTF-8"),
        (b"", "is empty: expected a header"),
        (b"tweet,label\na,x\n", "no column 'text'; it has 'tweet', 'label'. Name it with --text-"),
        (b"text,kind\na,x\n", "no column 'label'.*--label-column"),
        (b"text,label\na,x\nb,x\n", "must have two labels, got 1 .'x': 2."),
        (b"text,label\na,x\nb,y\nc,z\n", "must have two labels, got 3 .*name the one .* --rare"),
    ],
)
def test_broken_tables_are_named_without_their_texts(tmp_path: Path, content: bytes, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        corpus.read_table(write(tmp_path / "a.csv", content))
    assert "secret" not in str(caught.value)


def test_a_class_without_an_example_is_named(tmp_path: Path):
    table = write(tmp_path / "a.csv", "text,label\na,x\nb,x\n")
    with pytest.raises(ValueError, match="labelled 'spam'; there are 'x': 2"):
        corpus.read_table(table, rare="spam")
    with pytest.raises(ValueError, match="no text is labelled 'not x'"):
        corpus.read_table(table, rare="x")
    with pytest.raises(ValueError, match="the dev part of 0 texts has none of class 'can wait'"):
        corpus.split(messages.generate(40), 0, dev_share=0.0)


def test_public_corpora_are_read_as_they_are_published(tmp_path: Path):
    sms = write(tmp_path / "sms_spam.tsv", "ham\tok\nspam\tfree\tnow\n")
    assert corpus.read_sms(sms).texts == ["ok", "free\tnow"]
    with pytest.raises(ValueError, match="line 2: expected ham or spam, a tab, a message"):
        corpus.read_sms(write(tmp_path / "b.tsv", "ham\tok\nfree now\n"))
    write(tmp_path / "rt-polarity.neg", "a\x85b \nc\n".encode("latin-1"))
    write(tmp_path / "rt-polarity.pos", "caf\xe9\n".encode("latin-1"))
    reviews = corpus.read_reviews(tmp_path)
    assert reviews.texts == ["a\x85b", "c", "caf\xe9"]  # 0x85 ends no line
    np.testing.assert_array_equal(reviews.labels, [False, False, True])
    write(tmp_path / "olid-training-v1.0.tsv", "id\ttweet\tsubtask_a\n1\t@USER a\tOFF\n2\tb\tNOT\n")
    write(tmp_path / "testset-levela.tsv", "id\ttweet\n8\tc\n9\td\n")
    write(tmp_path / "labels-levela.csv", "id,label\n9,OFF\n8,NOT\n")
    olid = corpus.read_olid(tmp_path)
    assert olid.texts[2:] == ["d", "c"]
    np.testing.assert_array_equal(olid.labels, [True, False, True, False])
    np.testing.assert_array_equal(olid.held_out, [False, False, True, True])
    write(tmp_path / "labels-levela.csv", "id,label\n7,OFF\n")
    with pytest.raises(ValueError, match=r"2 tweets and .* 1 labels, 1 of them of no tweet"):
        corpus.read_olid(tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason="the corpora are not in ../shared/data")
@pytest.mark.parametrize(
    ("read", "texts", "rare"),
    [
        (corpus.read_sms, 5574, 747),
        (corpus.read_reviews, 10662, 5331),
        (corpus.read_olid, 14100, 4640),
    ],
)
def test_the_real_corpora_have_their_published_sizes(
    read: Callable[[Path], corpus.Corpus], texts: int, rare: int
):
    found = read(REAL)
    assert (len(found), int(found.labels.sum())) == (texts, rare)


# --- generated ------------------------------------------------------------------------------------


def test_generated_messages_have_cues_that_overlap_and_a_known_probability():
    found = messages.generate(6000)
    assert found.texts == messages.generate(6000).texts
    assert found.labels.mean() == 0.25
    assert found.posterior is not None
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):
        some = (found.posterior >= low) & (found.posterior < high)
        gap = found.labels[some].mean() - found.posterior[some].mean()
        assert abs(gap) < 0.04
    for cue in ("urgent", "stopped", "broken", "send someone now"):
        has = np.array([cue in text for text in found.texts])
        assert has[found.labels].any()
        assert has[~found.labels].any()
    # Nobody finds all: at ½ the truth itself has a recall of little more than half.
    assert 0.45 < (found.posterior[found.labels] > 0.5).mean() < 0.65


# --- parts ----------------------------------------------------------------------------------------


def test_a_split_keeps_shares_and_leaves_equal_texts_together():
    found = messages.generate(300)
    doubled = corpus.Corpus(
        found.texts + [text.upper() for text in found.texts],
        np.tile(found.labels, 2),
        found.classes,
    )
    parts = corpus.split(doubled, 0)
    everything = np.concatenate([parts.train, parts.dev, parts.test])
    np.testing.assert_array_equal(np.sort(everything), np.arange(600))
    for part in (parts.train, parts.dev, parts.test):
        assert abs(doubled.labels[part].mean() - 0.25) < 0.02
        np.testing.assert_array_equal(np.unique(part % 300).repeat(2), np.sort(part % 300))
    assert abs(len(parts.test) / 600 - 0.2) < 0.02
    assert not np.array_equal(corpus.split(doubled, 1).test, parts.test)


def test_official_test_texts_stay_the_test():
    found = messages.generate(200)
    held_out = np.arange(200) >= 150
    parts = corpus.split(corpus.Corpus(found.texts, found.labels, found.classes, held_out), 3)
    np.testing.assert_array_equal(parts.test, np.arange(150, 200))
    assert len(parts.dev) == pytest.approx(15, abs=2)
    assert len(parts.train) + len(parts.dev) == 150


def test_folds_test_every_text_once():
    found = messages.generate(101)
    parts = corpus.folds(found, 5, seed=0)
    tested = np.sort(np.concatenate([part.test for part in parts]))
    np.testing.assert_array_equal(tested, np.arange(101))
    assert all(len(part.train) + len(part.test) == 101 for part in parts)
    with pytest.raises(ValueError, match="folds must be at least 2, got 1"):
        corpus.folds(found, 1, seed=0)


# --- words ----------------------------------------------------------------------------------------


def test_words_are_split_as_kims_and_numbers_keep_their_length():
    found = words.tokens(
        "I can\u2019t, he's #Winner!! \u00a3500 @USER https://a.b/c \U0001f600 x_y"
    )
    assert found == [
        *("i", "ca", "n't", ",", "he", "'s", "#", "winner", "!", "!", "\u00a3", "000", "@user"),
        *("url", "\U0001f600", "x", "_", "y"),
    ]


def test_a_run_knows_the_words_of_its_own_training_texts_alone():
    texts = ["a a b", "b c", "c d d", "", "e " * 40]
    found, rows = words.collect(texts, [np.array([0, 1]), np.array([1, 2])], length=30, min_count=2)
    assert list(found.words) == ["<pad>", "<unknown>", "a", "b", "c", "d"]
    np.testing.assert_array_equal(rows.ids[0, 0], [2, 2, 3, PAD])
    np.testing.assert_array_equal(rows.ids[1, 0], [UNKNOWN, UNKNOWN, UNKNOWN, PAD])
    np.testing.assert_array_equal(rows.ids[:, 2, :3], [[1, 1, 1], [4, 5, 5]])
    np.testing.assert_array_equal(rows.ids[0, 3], [UNKNOWN, PAD, PAD, PAD])  # an empty text
    np.testing.assert_array_equal(rows.lengths, [3, 2, 3, 1, 4])  # the last one is cut
    again = found.rows(texts)
    np.testing.assert_array_equal(again.ids, rows.ids)
    with pytest.raises(ValueError, match="no word occurs min_count = 9 times"):
        words.collect(texts, [np.array([0])], length=30, min_count=9)


# --- vectors --------------------------------------------------------------------------------------

TABLE = {"hall": [1.0, 2.0, 3.0], "Gate": [4.0, 5.0, 6.0], "gate": [7.0, 8.0, 9.0]}
GLOVE = "".join(f"{word} {' '.join(map(str, v))}\n" for word, v in TABLE.items()).encode()
BINARY = b"3 3\n" + b"".join(
    word.encode() + b" " + np.array(v, "<f4").tobytes() + b"\n" for word, v in TABLE.items()
)


@pytest.mark.parametrize("content", [GLOVE, b"3 3\n" + GLOVE, BINARY, BINARY.replace(b"\nG", b"G")])
def test_vectors_are_read_from_word2vec_and_glove(tmp_path: Path, content: bytes):
    read, found = vectors.read_vectors(write(tmp_path / "v", content), ["lift", "hall", "gate"])
    np.testing.assert_array_equal(found, [False, True, True])
    assert vectors.size_of(tmp_path / "v") == 3
    np.testing.assert_array_equal(read, [[0, 0, 0], TABLE["hall"], TABLE["gate"]])
    whole = vectors.complete(read, found, np.random.default_rng(0))
    np.testing.assert_array_equal(whole[1:], read[1:])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (BINARY[:-5], "ends within vector 3 of 3: is it complete"),
        (GLOVE + b"lift 1 2\n", "line 4: expected a word and 3 numbers, got 3 cells"),
        (GLOVE + b"lift 1 2 x\n", "line 4: expected 3 numbers"),
        (b"shed 1 2 3\n", "a vector for none of the 1 words"),
        (b"word\n", "on each line a word and numbers"),
    ],
)
def test_broken_vectors_are_named(tmp_path: Path, content: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        vectors.read_vectors(write(tmp_path / "v", content), ["lift"])


def test_missing_vectors_are_drawn_with_the_deviation_of_those_there():
    rng = np.random.default_rng(0)
    given = np.where(np.arange(2000)[:, None] % 2, rng.normal(0, 0.3, (2000, 8)), 0.0)
    whole = vectors.complete(given.astype(np.float32), np.arange(2000) % 2 == 1, rng)
    assert whole[2::2].std() == pytest.approx(0.3, rel=0.02)
    assert not whole[PAD].any()


def test_learnt_vectors_factorise_ppmi_and_put_like_words_together():
    found = messages.generate(400)
    known, rows = words.collect(found.texts, [np.arange(400)], length=40, min_count=1)
    learnt = vectors.learn_vectors(rows.ids[0], len(known.words), 16)
    np.testing.assert_array_equal(learnt, vectors.learn_vectors(rows.ids[0], len(known.words), 16))
    assert not learnt[[PAD, UNKNOWN]].any()
    place = {str(word): k for k, word in enumerate(known.words)}
    unit = learnt / np.linalg.norm(learnt, axis=1, keepdims=True).clip(1e-9)
    alike = float(unit[place["cellar"]] @ unit[place["garage"]])
    unlike = float(unit[place["cellar"]] @ unit[place["thank"]])
    assert alike > unlike + 0.2


# --- batches --------------------------------------------------------------------------------------


def planned(**options: bool) -> pipeline.Plan:
    found = messages.generate(200)
    train = [np.arange(0, 150), np.arange(50, 200)]
    known, rows = words.collect(found.texts, train, length=64, min_count=1)
    return pipeline.plan(
        rows, found.labels, train, known.edges, seeds=[0, 1], epochs=2, batch_size=10, **options
    )


def test_a_batch_depends_on_seeds_and_step_alone():
    plan = planned()
    whole, rest = list(plan.batches(0)), list(plan.batches(20))
    assert (len(whole), len(rest)) == (30, 10)
    for a, b in zip(whole[20:], rest, strict=True):
        np.testing.assert_array_equal(a["ids"], b["ids"])
        np.testing.assert_array_equal(a["labels"], b["labels"])
    assert {batch["ids"].shape[-1] for batch in whole} == set(plan.edges)
    assert len(plan.edges) == 4


def test_every_run_passes_through_its_own_texts():
    plan = planned()
    drawn = np.zeros((2, 200), int)
    for step, batch in enumerate(plan.batches(0)):
        edge = plan.edges[plan.schedule[step]]
        for run in range(2):
            texts = plan.rows.ids[run, :, :edge]
            for row in batch["ids"][run]:
                drawn[run, np.flatnonzero((texts == row).all(1))] += 1
    for run, own in enumerate((np.arange(150), np.arange(50, 200))):
        others = np.setdiff1d(np.arange(200), own)
        # An equal text elsewhere may be counted along; messages hardly ever repeat.
        assert np.mean(drawn[run][others] > 0) < 0.1
        assert np.mean(np.abs(drawn[run][own] - 2) <= 1) > 0.9


def test_oversampling_repeats_the_rare_class_until_both_are_equal():
    share = np.mean([batch["labels"].mean() for batch in planned(oversample=True).batches(0)])
    assert share == pytest.approx(0.5, abs=0.03)
    plain = np.mean([batch["labels"].mean() for batch in planned().batches(0)])
    assert plain == pytest.approx(0.25, abs=0.04)


def test_lengths_that_a_run_lacks_are_left_out():
    lengths = np.array([2, 3, 6, 7, 11, 12])
    pools = [np.array([0, 2, 3]), np.array([1, 3])]
    np.testing.assert_array_equal(
        pipeline._shared_edges(lengths, pools, np.array([4, 8, 12])), [4, 12]
    )
    alone = pipeline._shared_edges(lengths, [np.array([0])], np.array([4, 8, 12]))
    np.testing.assert_array_equal(alone, [12])
