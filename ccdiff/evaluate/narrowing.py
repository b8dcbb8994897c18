"""Samples that look better because there is less variety in them.

Precision, density and coverage count samples among real images. Samples that shrink towards the
mean come to lie among them more often than real images do, so these figures rise while diversity
is lost: read beside the spread of features, they tell.
"""

from collections.abc import Iterator, Sequence

from ccdiff.metrics.figures import Figure, compare
from ccdiff.metrics.intervals import Interval

__all__ = ["narrowings"]

_RISE = ("precision", "density", "coverage")
_SPREAD = "spread_ratio"


def narrowings(
    figures: Sequence[Figure], pairs: Sequence[tuple[Figure, Figure]] = ()
) -> list[str]:
    """What to say where such figures are above real images', or an earlier evaluation's.

    Arguments:
        figures: Of an evaluation.
        pairs: Earlier figures, each with its like of this evaluation.
    """
    return [*_against_real(figures), *_against_earlier(pairs)]


def _against_real(figures: Sequence[Figure]) -> Iterator[str]:
    for spread in figures:
        if not _is(spread, _SPREAD) or spread.real is None or spread.interval is None:
            continue
        if spread.interval.high >= spread.real:
            continue
        risen = [
            figure
            for kind in _RISE
            for figure in figures
            if _is(figure, kind)
            and figure.provenance == spread.provenance
            and figure.real is not None
            and _low(figure.interval) > figure.real
        ]
        if risen:
            told = ", ".join(f"{f.name} {f.value:.3g} against {f.real:.3g}" for f in risen)
            yield (
                f"above what real images get: {told}, while features spread {spread.value:.3g} "
                f"of real images' (for real ones {spread.real:.3g}): samples that have lost "
                f"variety look so; trust recall and the distances "
                f"(compared with {spread.provenance.reference})"
            )


def _against_earlier(pairs: Sequence[tuple[Figure, Figure]]) -> Iterator[str]:
    for before, now in pairs:
        if not _is(now, _SPREAD):
            continue
        change = compare(before, now)
        if not change.clear or change.difference >= 0:
            continue
        risen = [
            after
            for earlier, after in pairs
            if any(_is(after, kind) for kind in _RISE)
            and after.provenance == now.provenance
            and (c := compare(earlier, after)).clear
            and c.difference > 0
        ]
        if risen:
            yield (
                f"{', '.join(f.name for f in risen)} rose since then, while the spread of "
                f"features fell from {before.value:.3g} to {now.value:.3g} of real images': "
                f"variety was lost (compared with {now.provenance.reference})"
            )


def _is(figure: Figure, kind: str) -> bool:
    return figure.name == f"{kind}_{figure.provenance.extractor}"


def _low(interval: Interval | None) -> float:
    return float("-inf") if interval is None else interval.low
