"""A figure with what it depends on, so that nobody compares what does not compare."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from ccdiff.errors import UserError
from ccdiff.metrics.intervals import Interval

__all__ = ["Comparison", "Figure", "Provenance", "compare"]

FORMAT = 1
"""Part of every provenance: a change of how a figure is defined needs a new number."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Everything but the model that a figure depends on; None where it plays no part.

    Arguments:
        n: Images measured.
        seed: Of the noise that samples come from.
        sampler: With all its settings.
        steps: Of the sampler, or of the integration for bits per dimension.
        guidance: With all its settings.
        threshold: With all its settings.
        schedule: To sample under, with all its settings; None is each model's own.
        precision: ``fp32`` or ``bf16``.
        resolution: ``C x H x W``.
        extractor: Name of what made features or judged labels.
        extractor_fingerprint: Of its weights.
        reference: What was compared with: ``train`` or ``heldout``.
        data_fingerprint: Of these images.
        format: Of the definition.
    """

    n: int
    seed: int | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: str | None = None
    threshold: str | None = None
    schedule: str | None = None
    precision: str | None = None
    resolution: str | None = None
    extractor: str | None = None
    extractor_fingerprint: str | None = None
    reference: str | None = None
    data_fingerprint: str | None = None
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number with its name, its 95 % interval and its provenance.

    Arguments:
        name: Such as ``fd_classifier``.
        value: As measured.
        interval: For want of images; None where it is not known.
        real: The same of real images with the same labels instead of samples, where there is one.
        provenance: What else it depends on.
    """

    name: str
    value: float
    interval: Interval | None = None
    real: float | None = None
    provenance: Provenance

    @property
    def key(self) -> str:
        """The name with what it was compared with."""
        reference = self.provenance.reference
        return self.name if reference is None else f"{self.name}_to_{reference}"

    def __str__(self) -> str:
        span = "" if self.interval is None else " [{:.4g}, {:.4g}]".format(*self.interval)
        real = "" if self.real is None else f", real images {self.real:.4g}"
        return f"{self.key} {self.value:.4g}{span}{real}"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        low, high = self.interval or (None, None)
        return {
            "name": self.name,
            "value": self.value,
            "low": low,
            "high": high,
            "real": self.real,
            "provenance": asdict(self.provenance),
        }

    @classmethod
    def parsed(cls, plain: dict[str, Any]) -> "Figure":
        """The figure that :meth:`plain` wrote."""
        interval = None if plain["low"] is None else Interval(plain["low"], plain["high"])
        return cls(
            name=plain["name"],
            value=plain["value"],
            interval=interval,
            real=plain["real"],
            provenance=Provenance(**plain["provenance"]),
        )


class Comparison(NamedTuple):
    """How two figures differ.

    Arguments:
        difference: The second less the first.
        clear: Whether their intervals have nothing in common; False where one has none.
    """

    difference: float
    clear: bool


def compare(first: Figure, second: Figure, *, varying: Sequence[str] = ()) -> Comparison:
    """Compares figures of two models, or of one model treated in two ways.

    Arguments:
        first: A figure.
        second: Another.
        varying: Parts of the provenance whose influence is the very question, such as
            ``("sampler", "steps")``.

    Raises:
        UserError: Where they are different figures, or anything else differs in how they came
            about.
    """
    if first.name != second.name:
        raise UserError(f"{first.name} and {second.name} are different figures")
    known = {field.name for field in fields(Provenance)}
    if unknown := set(varying) - known:
        raise UserError(f"no such part of a provenance: {', '.join(sorted(unknown))}")
    ours, theirs = asdict(first.provenance), asdict(second.provenance)
    differing = [
        f"{key} ({ours[key]} against {theirs[key]})"
        for key in ours
        if ours[key] != theirs[key] and key not in varying
    ]
    if differing:
        raise UserError(
            f"two figures {first.name} do not compare: they differ in {', '.join(differing)}; "
            f"measure both in the same way"
        )
    return Comparison(second.value - first.value, _apart(first.interval, second.interval))


def _apart(first: Interval | None, second: Interval | None) -> bool:
    if first is None or second is None:
        return False
    return first.high < second.low or second.high < first.low
