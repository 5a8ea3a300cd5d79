"""Generated messages to a caretaker, some of which need someone now: a rare class to be found.

A message is two to four sentences of the kinds below, drawn independently, with other shares in
either class. No kind is certain: people write "it has stopped" of what can wait, and words such as
"stopped", "urgent" and "again" occur in sentences that mean the opposite, so that a network has to
read phrases. Since a sentence tells its kind, the true probability of a message is known, and with
it how well anybody could do.
"""

from __future__ import annotations

import numpy as np

from experiments.text.corpus import Corpus

_FILLERS = {
    "thing": "lift, heating, boiler, door, gate, alarm, pump, light, lamp, lock, shower, tap, "
    "drain, roof, window, fan, radiator, intercom, elevator, oven, fridge, washer, dryer, router, "
    "meter, fuse, bell, ramp",
    "place": "hall, cellar, garage, kitchen, second floor, third floor, attic, yard, laundry, "
    "office, flat 4, flat 12, flat 31, entrance, stairwell, bathroom, lobby, back room, workshop, "
    "garden",
    "time": "last week, yesterday, this morning, on monday, in march, last night, for an hour",
    "result": "nobody can get in, people are stuck, we have no water, it is dark, it is freezing, "
    "the floor is wet, we cannot lock up, it smells of gas, it makes a loud noise",
}
FILLERS = {name: words.split(", ") for name, words in _FILLERS.items()}

# Share in messages that need someone now, share in the others, and how such a sentence may read.
KINDS: dict[str, tuple[float, float, list[str]]] = {
    "stopped": (
        0.20,
        0.035,
        [
            "the {thing} in the {place} has stopped and {result}",
            "{result} because the {thing} has stopped",
            "the {thing} is broken again , {result}",
            "no {thing} in the {place} since {time} and {result}",
        ],
    ),
    "urgent": (
        0.14,
        0.04,
        [
            "this is urgent",
            "please send someone now",
            "it cannot wait , please hurry",
            "we need help with the {thing} at once",
            "can somebody come right away ?",
        ],
    ),
    "complaint": (
        0.12,
        0.06,
        [
            "still nobody has looked at the {thing}",
            "i called about the {thing} {time} and nobody came",
            "the {thing} in the {place} is getting worse",
        ],
    ),
    "over": (
        0.05,
        0.10,
        [
            "the {thing} had stopped {time} but works again",
            "the {thing} is not broken any more",
            "{time} the {thing} in the {place} was broken , now it is fine",
            "someone came right away and the {thing} runs again",
        ],
    ),
    "calm": (
        0.03,
        0.12,
        [
            "this is not urgent",
            "there is no hurry",
            "it can wait , please do not send someone now",
            "whenever somebody is in the {place} anyway",
        ],
    ),
    "question": (
        0.10,
        0.245,
        [
            "how do i set the {thing} in the {place} ?",
            "who has the key to the {place} ?",
            "when will the {thing} be read ?",
            "can i get a new {thing} for the {place} ?",
        ],
    ),
    "thanks": (
        0.06,
        0.16,
        [
            "thank you for the quick help with the {thing}",
            "many thanks , the {thing} is fine",
            "good work in the {place} {time}",
        ],
    ),
    "talk": (
        0.30,
        0.24,
        [
            "i live next to the {place}",
            "we moved the {thing} to the {place} {time}",
            "the {thing} in the {place} is the old one",
            "my neighbour wrote about the {thing} {time}",
            "it is about the {thing} in the {place}",
        ],
    ),
}
CLASSES = ("can wait", "needs someone now")


RARE_SHARE = 0.25  # the question's: 5,000 true texts and 15,000 false ones


def generate(count: int) -> Corpus:
    """Draw `count` messages, the same on every call."""
    if count < 20:
        raise ValueError(f"messages must be at least 20, got {count}")
    rng = np.random.default_rng(0)
    in_rare, in_common = (np.array([kind[k] for kind in KINDS.values()]) for k in (0, 1))
    labels = rng.permutation(np.arange(count) < round(RARE_SHARE * count))
    texts, evidence = [], np.empty(count)
    for i, rare in enumerate(labels):
        shares = in_rare if rare else in_common
        drawn = rng.choice(len(KINDS), size=rng.integers(2, 5), p=shares / shares.sum())
        texts.append(" . ".join(_sentence(k, rng) for k in drawn) + " .")
        evidence[i] = np.log(in_rare[drawn] / in_common[drawn]).sum()
    odds = np.exp(evidence) * RARE_SHARE / (1.0 - RARE_SHARE)
    return Corpus(texts, labels, CLASSES, posterior=odds / (1.0 + odds))


def _sentence(kind: int, rng: np.random.Generator) -> str:
    forms = list(KINDS.values())[kind][2]
    filled = {name: words[rng.integers(len(words))] for name, words in FILLERS.items()}
    return forms[rng.integers(len(forms))].format(**filled)
