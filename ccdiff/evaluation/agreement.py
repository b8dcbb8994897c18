"""Whether an image shows what its label says, in the eyes of a classifier."""

from torch import Tensor

__all__ = ["label_agreement"]


def label_agreement(logits: Tensor, y: Tensor, drop: Tensor | None = None) -> float:
    """The share of labels, in [0, 1], that the classifier finds in the images.

    Arguments:
        logits: [B, K].
        y: Class indices [B], which agree where the largest logit is theirs, or attributes [B, K],
            each of which agrees where its logit has the right sign.
        drop: Attributes that were left open and do not count, bool [B, K].
    """
    if y.ndim == 1:
        return (logits.argmax(1) == y).double().mean().item()
    right = (logits > 0) == y.bool()
    return (right if drop is None else right[~drop]).double().mean().item()
