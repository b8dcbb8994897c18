"""Nothing that users write ends in another exception than the documented one."""

import csv
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ccdiff.data.files.columns import ColumnSettings, read_columns
from ccdiff.data.files.tables import read_table
from ccdiff.data.files.trees import FolderTree
from ccdiff.diffusion.conditioning import MultiHot, OneHot
from ccdiff.errors import UserError
from ccdiff.generation.labels import parse_labels
from ccdiff.sample.job import _file_name
from ccdiff.settings import TrainerSettings

# Examples are drawn the same way each time, and none may be too slow on a busy machine.
fuzz = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

CLASSES = OneHot(["cat", "3", "-dog", "Ünï côde", "zero"], dim=4)
ATTRIBUTES = MultiHot(["Young", "Male", "-odd", "5"], dim=4, attribute_drop=0.5)

names = st.sampled_from([*CLASSES.label_names, *ATTRIBUTES.label_names])
word = st.one_of(names, st.text(max_size=12), st.integers().map(str), names.map("-{}".format))
row = st.one_of(
    word,
    st.lists(word, max_size=4).map(",".join),
    st.text(alphabet="0123456789-,² ٣", max_size=8),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(),
    st.lists(st.one_of(word, st.integers(-1, 2), st.none()), max_size=5),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@fuzz
@given(request=st.one_of(row, st.lists(row, max_size=4)), attributes=st.booleans())
def test_any_labels_are_understood_or_refused(request, attributes):
    conditioning = ATTRIBUTES if attributes else CLASSES
    try:
        y, drop, titles = parse_labels(request, conditioning)
    except UserError:
        return
    assert len(y) == len(titles) > 0
    if attributes:
        assert y.shape == drop.shape == (len(titles), 4)
        assert not (y.bool() & drop).any()
    else:
        assert drop is None
        assert ((y >= 0) & (y < 5)).all()


@fuzz
@given(told=st.dictionaries(st.sampled_from(["Young", "Male", "-odd", "5"]), st.booleans()))
def test_what_is_told_is_read_back(told):
    text = ",".join(name if present else f"-{name}" for name, present in told.items())
    y, drop, _ = parse_labels([text], ATTRIBUTES)
    for k, name in enumerate(ATTRIBUTES.label_names):
        assert bool(drop[0, k]) == (name not in told)
        assert bool(y[0, k]) == told.get(name, False)


@fuzz
@given(name=st.sampled_from(CLASSES.label_names), spaces=st.text(" ", max_size=2))
def test_a_class_is_found_by_name_and_number(name, spaces):
    index = CLASSES.label_names.index(name)
    assert parse_labels([spaces + name + spaces], CLASSES).y.tolist() == [index]
    if str(index) not in CLASSES.label_names:
        assert parse_labels(index, CLASSES).y.tolist() == [index]


@pytest.mark.parametrize("label", ["9" * 5000, "-" * 5000, "²", "1_000", "\0"])
def test_numbers_that_are_none_are_refused(label):
    with pytest.raises(UserError):
        parse_labels(label, CLASSES)


@fuzz
@given(title=st.text(max_size=90))
def test_a_picture_stays_in_its_folder(title):
    name = _file_name(0, title, 0)
    assert (Path("/out/images") / name).resolve().parent == Path("/out/images")
    assert len(name.encode()) < 255


cell = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["1", "0", "-1", "yes", "true", "1.0", "train", "val", "a.png", "9" * 5000]),
)
column = st.one_of(
    st.sampled_from(["file", "label", "tags", "split", "class", "Smiling", "", " FILE "]),
    st.text(max_size=6),
)


def read(content: bytes, suffix: str) -> None:
    """Reads a table; fails unless it is refused, or its parts agree."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        path.write_bytes(content)
        try:
            table = read_table(FolderTree(Path(folder)), path.name)
            said = read_columns(table.rows, path.name, ColumnSettings())
        except UserError:
            return
    assert len(table.files) == len(table.rows) >= len(said.labels) > 0
    assert said.labels.ndim == 1 or said.labels.shape[1] == len(said.names)
    if said.labels.ndim == 1:
        assert said.labels.max() < len(said.names)
    else:
        assert set(np.unique(said.labels)) <= {0, 1}


@fuzz
@given(
    header=st.lists(column, min_size=1, max_size=4),
    rows=st.lists(st.lists(cell, min_size=1, max_size=4), max_size=4),
    suffix=st.sampled_from([".csv", ".tsv", ".txt"]),
)
def test_any_csv_is_read_or_refused(header, rows, suffix):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter="," if suffix == ".csv" else "\t")
    writer.writerows([header, *rows])
    read(text.getvalue().encode("utf-8", "replace"), suffix)


@fuzz
@given(content=st.binary(max_size=80), suffix=st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_any_bytes_are_read_or_refused(content, suffix):
    read(content, suffix)
    read(b"file,label\n" + content, suffix)


value = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@fuzz
@given(rows=st.lists(st.dictionaries(column, value, min_size=1, max_size=3), max_size=3))
def test_any_json_lines_are_read_or_refused(rows):
    read("\n".join(map(json.dumps, rows)).encode(), ".jsonl")
    with_file = [{"file": f"{i}.png", **row} for i, row in enumerate(rows)]
    read("\n".join(map(json.dumps, with_file)).encode(), ".jsonl")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"file": ' * 50_000, '{"file": 1e999}'])
def test_nested_or_huge_json_is_refused(content):
    read(content.encode(), ".jsonl")


counts = {name: st.integers(-2, 200) for name in ("steps", "batch_size", "accumulate", "keep")}
floats = {name: st.floats() for name in ("grad_clip", "keep_gib")}


@fuzz
@given(values=st.fixed_dictionaries({}, optional={**counts, **floats, "max_time": st.text()}))
def test_settings_are_possible_or_refused(values):
    try:
        made = TrainerSettings(**values)
    except UserError:
        return
    assert made.steps >= 1
    assert made.batch_size % made.accumulate == 0
    assert made.grad_clip > 0
    assert made.keep_bytes > 0
    assert made.max_seconds is None or 0 < made.max_seconds < float("inf")
