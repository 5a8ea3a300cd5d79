"""What users type into the search box, and the place that answers: the search puts it first."""

from __future__ import annotations

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

HOWTO = "howto#how-do-i-"
PLACES = {
    "zeros": ("all zeros", "predicts all zeros", "predicts nothing", "empty masks", "u-net"),
    "start/index": ("install", "installation", "quick start", "tutorial"),
    "start/flax": ("flax", "nnx", "segmentation", "save threshold", "deploy"),
    "arguments": ("nan", "shape error", "broadcast", "reduction", "from_logits", "class_axis"),
    "choosing": ("which loss", "choosing a loss", "class imbalance", "imbalanced data", "recall"),
    "half_precision": ("bfloat16", "float16", "bf16", "fp16", "half precision", "mixed precision"),
    "microbatches": ("gradient accumulation", "microbatches", "multi-gpu", "pmap", "shard_map"),
    "streaming": ("streaming metrics", "update compute reset", "epoch metrics"),
    "operating_points": ("operating point", "precision at recall", "recall 0.98"),
    "pods": ("tpu", "slurm", "multiple hosts"),
    "speed": ("benchmark", "benchmarks", "performance", "torch.compile"),
    "coming_from/pytorch": ("pytorch", "torch", "bcewithlogitsloss", "pos_weight"),
    "coming_from/monai": ("diceloss", "monai"),
    "coming_from/sklearn": ("f1_score", "scikit-learn", "sklearn"),
    "coming_from/torchmetrics": ("torchmetrics", "update", "compute"),
    "recorded/uncertainty": ("0.693", "uncertainty", "ensemble", "mc dropout"),
    "recorded/speakers": ("siamese", "speakers", "embeddings"),
    "recorded/text": ("textcnn", "text classification"),
    "recorded/ships": ("airbus", "ships"),
    "api/generated/dice_loss": ("dice loss", "dice"),
    "api/generated/triplet_loss": ("triplet loss", "metric learning"),
    "api/generated/fit_threshold": ("threshold", "decision threshold", "threshold tuning"),
    "api/generated/confusion": ("confusion matrix",),
    "api/generated/lovasz_softmax_loss": ("lovasz", "lovasz softmax"),
    HOWTO + "use-f1-or-macro-f1-as-a-loss": ("f1", "f1 loss", "f-score", "macro", "macro f1"),
    HOWTO + "use-iou-as-a-loss-for-segmentation": ("iou", "iou loss", "jaccard", "miou"),
    HOWTO + "use-focal-loss-and-what-is-alpha": ("focal", "focal loss"),
    HOWTO + "ignore-label-255-ignore-index": ("ignore index", "ignore_index", "255", "mask"),
    HOWTO + "use-class-weights": ("class weights", "class_weight", "weighted loss"),
    HOWTO + "do-multi-label-with-a-threshold-for-each-label": ("multi-label", "multilabel"),
    HOWTO + "use-soft-labels-label-smoothing-or-mixup": ("label smoothing", "mixup"),
    HOWTO + "train-one-output-on-several-losses": ("several losses", "multi loss"),
    HOWTO + "use-auc-or-recall-at-a-fixed-precision-as-a-loss": ("auc", "roc auc", "auroc"),
    HOWTO + "compare-two-models-honestly": ("compare models", "significance", "standard error"),
    HOWTO + "get-error-bars-for-regression-and-why-is-the-std-stuck-at-0693": ("error bars",),
    HOWTO + "turn-my-own-score-into-a-loss": ("custom loss", "custom metric", "own metric"),
    "howto#is-my-model-calibrated-and-how-do-i-undo-class-weights-or-oversampling": (
        "calibration", "temperature scaling", "ece", "oversampling",
    ),
    "howto#what-is-wrong-with-my-loss-and-why-does-it-not-fall": ("debug loss",),
}  # fmt: skip


def add(app: Sphinx, tree: nodes.document) -> None:
    """Enter the words of a page into its index, which the search ranks above the text."""
    ids = {i for section in tree.findall(nodes.section) for i in section["ids"]}
    for place, words in PLACES.items():
        page, _, anchor = place.partition("#")
        if page != app.env.docname:
            continue
        if anchor and anchor not in ids:
            raise ExtensionError(f"{page} has no section #{anchor}, named in docs/_ext/searched.py")
        entries = [("single", word, anchor, "main", None) for word in words]
        next(tree.findall(nodes.section)).insert(0, addnodes.index(entries=entries))


def check(app: Sphinx, env: object) -> None:
    """Every page that is named here exists."""
    missing = {place.partition("#")[0] for place in PLACES} - app.env.found_docs
    if missing:
        raise ExtensionError(f"docs/_ext/searched.py names pages that are not there: {missing}")


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("doctree-read", add)
    app.connect("env-updated", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
