"""What can be asked for on the page, by the kind of labels that a model has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ccdiff.diffusion.conditioning import Conditioning, MultiHot
from ccdiff.diffusion.continuous import Continuous
from ccdiff.errors import UserError

__all__ = ["LabelChoice", "label_choice"]

_FEW = 24
_FEW_ATTRIBUTES = 12
PRESENT, ABSENT, OPEN = "present", "absent", "open"


@dataclass(frozen=True, kw_only=True)
class LabelChoice:
    """Inputs of the page, and how they are read.

    Arguments:
        inputs: In the order in which ``read`` takes their values.
        read: From their values to rows, as :func:`~ccdiff.generation.labels.parse_labels` reads
            them; raises a UserError where nothing is chosen.
    """

    inputs: Sequence[gr.components.Component]
    read: Callable[[Sequence[Any]], list[str]]


def label_choice(conditioning: Conditioning) -> LabelChoice:
    """Makes the inputs within the page that is being built.

    Classes may be chosen several at once, a row for each. Of attributes each is present, absent
    or, where the model was trained with some of them hidden, open. Numbers lie in the range of
    the training images.

    Arguments:
        conditioning: Of the model.
    """
    if isinstance(conditioning, MultiHot):
        few = len(conditioning.label_names) <= _FEW_ATTRIBUTES
        return _each_attribute(conditioning) if few else _many_attributes(conditioning)
    if isinstance(conditioning, Continuous):
        return _numbers(conditioning)
    return _classes(conditioning.label_names)


def _classes(names: Sequence[str]) -> LabelChoice:
    chosen = list(names[:3])
    if len(names) <= _FEW:
        box: gr.components.Component = gr.CheckboxGroup(list(names), value=chosen, label="Labels")
    else:
        box = gr.Dropdown(list(names), value=chosen, multiselect=True, label="Labels")

    def read(values: Sequence[Any]) -> list[str]:
        (labels,) = values
        if not labels:
            raise UserError("choose a label")
        return list(labels)

    return LabelChoice(inputs=[box], read=read)


def _each_attribute(conditioning: MultiHot) -> LabelChoice:
    names = conditioning.label_names
    may_be_open = conditioning.attribute_drop > 0
    states = [PRESENT, ABSENT, *([OPEN] if may_be_open else [])]
    rest = OPEN if may_be_open else ABSENT
    boxes = [
        gr.Radio(states, value=PRESENT if k == 0 else rest, label=name)
        for k, name in enumerate(names)
    ]

    def read(values: Sequence[Any]) -> list[str]:
        pairs = list(zip(names, values, strict=True))
        present = [name for name, state in pairs if state == PRESENT]
        # What is not named is absent where nothing can be left open.
        absent = [f"-{name}" for name, state in pairs if state == ABSENT and may_be_open]
        return [_row(present, absent, names)]

    return LabelChoice(inputs=boxes, read=read)


def _many_attributes(conditioning: MultiHot) -> LabelChoice:
    names = list(conditioning.label_names)
    may_be_open = conditioning.attribute_drop > 0
    rest = "left open" if may_be_open else ABSENT
    boxes = [
        gr.Dropdown(
            names, value=names[:1], multiselect=True, label=f"Present (all others: {rest})"
        ),
        gr.Dropdown(names, value=[], multiselect=True, label="Absent", visible=may_be_open),
    ]

    def read(values: Sequence[Any]) -> list[str]:
        present, absent = (list(chosen or []) for chosen in values)
        if both := [name for name in absent if name in present]:
            raise UserError(f"{both[0]} cannot be both present and absent")
        return [_row(present, [f"-{name}" for name in absent], names)]

    return LabelChoice(inputs=boxes, read=read)


def _row(present: Sequence[str], absent: Sequence[str], names: Sequence[str]) -> str:
    # A row names at least one: with none present, the absent first one says so.
    return ",".join([*present, *absent] or [f"-{names[0]}"])


def _numbers(conditioning: Continuous) -> LabelChoice:
    """A slider for each number, and where one may be left open, a box that says so."""
    names = conditioning.label_names
    may_be_open = conditioning.may_be_missing.tolist()
    boxes: list[gr.components.Component] = []
    for k, name in enumerate(names):
        low, high, mean = (
            float(f"{getattr(conditioning, key)[k].item():.4g}") for key in ("low", "high", "mean")
        )
        boxes.append(gr.Slider(low, high, value=mean, label=name))
        boxes.append(gr.Checkbox(False, label=f"leave {name} open", visible=may_be_open[k]))

    def read(values: Sequence[Any]) -> list[str]:
        pairs = zip(names, values[::2], values[1::2], strict=True)
        told = [f"{name}={value:.6g}" for name, value, is_open in pairs if not is_open]
        if not told:
            raise UserError("give at least one number")
        return [",".join(told)]

    return LabelChoice(inputs=boxes, read=read)
