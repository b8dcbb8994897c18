"""Any folder of images with classes or attributes, told by folders or by a table."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ccdiff.data import Folder, Split
from ccdiff.data.files.trees import FolderTree
from ccdiff.diffusion.conditioning import MultiHot, OneHot
from ccdiff.errors import UserError
from ccdiff.system.text import natural_key

NUM = 12


def shade(i: int) -> np.ndarray:
    """An image that shows its number."""
    return np.full((4, 4, 3), 20 * i, np.uint8)


def put(path: Path, i: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(shade(i)).save(path)


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


@pytest.fixture
def pictures(root) -> Path:
    """Twelve images in a folder; half are dark, and every third is small."""
    for i in range(NUM):
        put(root / "pictures" / f"{i}.png", i)
    return root


def open_folder(root: Path, **options) -> Folder:
    settings = {"image_size": 4, "channels": 3, "flip": False, "cache": str(root.parent / "cache")}
    return Folder(root=str(root), **{**settings, **options})


def test_the_home_folder_is_found_where_no_shell_writes_it_out(pictures, monkeypatch):
    monkeypatch.setenv("HOME", str(pictures.parent))
    options = {"image_size": 4, "channels": 3, "flip": False, "cache": "~/cache"}
    train, heldout = Folder(root="~/set", **options).load()
    assert len(train) + len(heldout) == NUM
    assert (pictures.parent / "cache").is_dir()


def labels_by_number(*splits: Split) -> dict[int, list[int] | int]:
    return {
        int(image.flatten()[0]) // 20: label.tolist()
        for split in splits
        for image, label in zip(split.images, split.labels, strict=True)
    }


# Folders as classes


def test_folders_are_classes_in_natural_order(root):
    for i in range(NUM):
        put(root / f"kind {i % 3 + 9}" / "deeper" / f"{i}.png", i)
    data = open_folder(root, heldout=0.25)
    assert data.names == ("kind 9", "kind 10", "kind 11")
    train, heldout = data.load()
    assert labels_by_number(train, heldout) == {i: i % 3 for i in range(NUM)}
    assert train.labels.dtype == torch.int64
    # Some of each class are held out, and some trained on.
    for split in (train, heldout):
        assert split.labels.unique().tolist() == [0, 1, 2]
    OneHot(data.names, dim=4).check(train.labels)


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "test"])
def test_a_split_into_folders_is_kept(root, name):
    for i in range(NUM):
        put(root / (name if i % 4 == 0 else "train") / ("even", "odd")[i % 2] / f"{i}.png", i)
    put(root / name / "odd" / "1.png", 1)
    train, heldout = open_folder(root).load()
    assert labels_by_number(train) == {i: i % 2 for i in range(NUM) if i % 4}
    assert labels_by_number(heldout) == {0: 0, 4: 0, 8: 0, 1: 1}


def test_a_train_is_a_vehicle_too(root):
    for i, name in enumerate(["car", "plane", "train"] * 4):
        put(root / name / f"{i}.png", i)
    assert open_folder(root).names == ("car", "plane", "train")


def test_a_class_that_is_only_held_out_is_refused(root):
    for i, name in enumerate(["train/cat", "train/dog", "val/cat", "val/cow"]):
        put(root / name / f"{i}.png", i)
    with pytest.raises(UserError, match="no training images of cow"):
        _ = open_folder(root).names


def test_images_alone_are_one_class(root):
    for i in range(NUM):
        put(root / f"{i}.png", i)
    (root / "notes").mkdir()
    (root / "notes" / "about.txt").write_text("no image")
    data = open_folder(root)
    assert data.names == ("image",)
    train, heldout = data.load()
    assert labels_by_number(train, heldout) == dict.fromkeys(range(NUM), 0)


def test_images_beside_folders_of_images_are_ambiguous(root):
    put(root / "cat" / "0.png", 0)
    put(root / "1.png", 1)
    with pytest.raises(UserError, match=r"holds images \('1\.png'\) beside folders .*'cat'"):
        _ = open_folder(root).names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": None}, r"pass data\.root=<folder>"),
        ({"root": "/nowhere/at/all"}, "/nowhere/at/all is not a folder, nor a file"),
        ({}, "holds no images: it needs a folder per class"),
        ({"table": "labels.csv"}, r"data\.table=labels\.csv is not a file in"),
        ({"table": "x.txt"}, r"ends in \.csv, \.tsv, \.jsonl, \.parquet"),
    ],
)
def test_folders_without_images_are_told(root, options, message):
    settings = {"root": str(root), "image_size": 4, "channels": 3, "flip": False, **options}
    with pytest.raises(UserError, match=message):
        _ = Folder(**settings).names


def test_one_image_cannot_be_split(root):
    put(root / "0.png", 0)
    with pytest.raises(UserError, match="set has 1 images, but no held-out ones"):
        _ = open_folder(root).names


def test_expected_names_are_held_to(root):
    for i in range(NUM):
        put(root / ("cat", "dog")[i % 2] / f"{i}.png", i)
    assert open_folder(root, label_names=["cat", "dog"]).names == ("cat", "dog")
    with pytest.raises(UserError, match=r"data\.label_names says dog, cat, but .* has cat, dog"):
        _ = open_folder(root, label_names=["dog", "cat"]).names


def test_classes_have_no_attributes(root):
    for i in range(NUM):
        put(root / ("cat", "dog")[i % 2] / f"{i}.png", i)
    with pytest.raises(UserError, match="one class per image and no attribute 'cat'"):
        _ = open_folder(root, attributes=["cat"]).names


# Tables

ROWS = [{"file": f"pictures/{i}.png", "dark": int(i < 6), "small": i % 3 == 0} for i in range(NUM)]
BITS = {i: [int(i < 6), int(i % 3 == 0)] for i in range(NUM)}


def write_csv(path: Path, rows: list[dict], *, delimiter: str = ",", end: str = "\n") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator=end)
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[dict]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows))


WRITERS = {
    "csv": lambda root, rows: write_csv(root / "table.csv", rows),
    "csv with semicolons": lambda root, rows: write_csv(root / "table.csv", rows, delimiter=";"),
    "csv of windows": lambda root, rows: write_csv(root / "table.CSV", rows, end="\r\n"),
    "tsv": lambda root, rows: write_csv(root / "table.tsv", rows, delimiter="\t"),
    "jsonl": lambda root, rows: write_jsonl(root / "table.jsonl", rows),
    "parquet": lambda root, rows: pq.write_table(
        pa.Table.from_pylist(rows), root / "table.parquet"
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_table_says_the_same(pictures, kind):
    WRITERS[kind](pictures, ROWS)
    data = open_folder(pictures)
    assert data.names == ("dark", "small")
    train, heldout = data.load()
    assert labels_by_number(train, heldout) == BITS
    assert train.labels.dtype == torch.uint8
    MultiHot(data.names, dim=4).check(train.labels)


@pytest.mark.parametrize(
    "column", ["file", "file_name", "Filename", " image ", "image_id", "path"]
)
def test_files_are_found_in_any_column_of_that_name(pictures, column):
    rows = [{"dark": row["dark"], column: row["file"]} for row in ROWS]
    write_csv(pictures / "table.csv", rows)
    assert labels_by_number(*open_folder(pictures).load()) == {i: [b[0]] for i, b in BITS.items()}


@pytest.mark.parametrize(
    ("yes", "no"), [("1", "0"), ("1", "-1"), ("True", "false"), ("yes", "NO")]
)
def test_yes_and_no_in_every_spelling(pictures, yes, no):
    rows = [{"file": row["file"], "dark": yes if row["dark"] else no} for row in ROWS]
    write_csv(pictures / "table.csv", rows)
    assert labels_by_number(*open_folder(pictures).load()) == {i: [b[0]] for i, b in BITS.items()}


def tags_of(i: int) -> list[str]:
    return [name for name, bit in zip(("dark", "small"), BITS[i], strict=True) if bit]


@pytest.mark.parametrize("column", ["tags", "attributes", "caption"])
@pytest.mark.parametrize(
    "write",
    [
        lambda i: ", ".join(tags_of(i)),
        tags_of,
        lambda i: {"dark": BITS[i][0], "small": BITS[i][1]},
    ],
    ids=["text", "list", "mapping"],
)
def test_tags_are_attributes(pictures, column, write):
    rows = [{"file": f"pictures/{i}.png", column: write(i)} for i in range(NUM)]
    write_jsonl(pictures / "table.jsonl", rows)
    data = open_folder(pictures)
    assert data.names == ("dark", "small")
    assert labels_by_number(*data.load()) == BITS


def test_a_class_column_makes_classes(pictures):
    rows = [{"file": f"pictures/{i}.png", "label": ("light", "dark")[i < 6]} for i in range(NUM)]
    write_csv(pictures / "table.csv", rows)
    data = open_folder(pictures)
    assert data.names == ("dark", "light")
    assert labels_by_number(*data.load()) == {i: int(i >= 6) for i in range(NUM)}


def test_a_split_column_is_kept(pictures):
    rows = [{**row, "split": ("train", "val")[i in (2, 5)]} for i, row in enumerate(ROWS)]
    write_csv(pictures / "table.csv", rows)
    train, heldout = open_folder(pictures).load()
    assert labels_by_number(heldout) == {i: BITS[i] for i in (2, 5)}
    assert len(train) == NUM - 2


def test_rows_in_any_order_belong_to_their_images(pictures):
    write_csv(pictures / "table.csv", ROWS[5:] + ROWS[:5])
    assert labels_by_number(*open_folder(pictures).load()) == BITS


def test_images_without_a_row_are_told_and_not_used(pictures, caplog):
    write_csv(pictures / "table.csv", ROWS[:10])
    train, heldout = open_folder(pictures).load()
    assert len(train) + len(heldout) == 10
    assert "2 images in" in caplog.text


def test_columns_that_are_no_attributes_are_left_out_on_request(pictures):
    rows = [{"file": row["file"], "title": "a picture", "dark": row["dark"]} for row in ROWS]
    write_csv(pictures / "table.csv", rows)
    with pytest.raises(UserError, match=r"'title' of image 1 of .*'a picture'.*data\.attributes"):
        _ = open_folder(pictures).names
    assert open_folder(pictures, attributes=["dark"]).names == ("dark",)
    assert open_folder(pictures, attribute="dark").names == ("not_dark", "dark")
    with pytest.raises(UserError, match="'title' of image 1"):
        _ = open_folder(pictures, attributes=["dark", "title"]).names
    with pytest.raises(UserError, match="no attribute 'drk'; did you mean dark"):
        _ = open_folder(pictures, attributes=["drk"]).names


def test_several_tables_are_chosen_from(pictures):
    write_csv(pictures / "a.csv", ROWS)
    write_csv(pictures / "pictures" / "b.csv", [{"file": f"{i}.png", "x": 1} for i in range(NUM)])
    write_jsonl(pictures / "c.jsonl", [{**row, "more": 1} for row in ROWS])
    with pytest.raises(UserError, match=r"pass data\.table=<one of a\.csv, c\.jsonl>"):
        _ = open_folder(pictures).names
    assert open_folder(pictures, table="c.jsonl").names == ("dark", "small", "more")
    # Files are named from where the table lies.
    assert labels_by_number(*open_folder(pictures, table="pictures/b.csv").load())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "", "has no rows"),
        ("t.csv", "file,dark\n", "has no rows"),
        ("t.csv", "name,dark\n0.png,1\n", "no column of .* names the image: it has name, dark"),
        ("t.csv", "file\n0.png\n", "no attribute of them"),
        ("t.csv", "file,dark\n0.png,1,1\n", "row 2 of .* does not have as many fields"),
        ("t.csv", "file,dark\n0.png,1\n1.png\n", "row 3 of .* does not have as many fields"),
        ("t.csv", "file,dark\n0.png,\n", "column 'dark' of image 1 of .* is ''"),
        ("t.csv", "file,dark\n0.png,0.5\n", "column 'dark' of image 1 of .* is '0.5'"),
        ("t.csv", "file,dark\n0.png,1\n0.png,1\n", r"image 2 of .* names '0\.png' a second time"),
        ("t.csv", "file,dark\n,1\n", "image 1 of .* names no file"),
        ("t.csv", 'file,dark\n"0.png,1\n', "cannot be read as CSV"),
        ("t.csv", "file,label\n0.png,\n", "image 1 of .* has no 'label'"),
        ("t.csv", "file,dark,split\n0.png,1,holdout\n", "split 'holdout'; use train or val"),
        ("t.jsonl", '{"file": "0.png"', "line 1 of .* is not JSON"),
        ("t.jsonl", "[1]\n", "line 1 of .* is not an object"),
        (
            "t.jsonl",
            '{"file": "0.png", "a": 1}\n{"file": "1.png"}',
            "line 2 of .* keys of the first",
        ),
        ("t.jsonl", '{"file": "0.png", "tags": 7}', "'tags' of image 1 of .*7 is no list"),
        ("t.jsonl", '{"file": "0.png", "tags": {"a": 7}}', "something else than 0 and 1"),
        ("t.jsonl", '{"file": "0.png", "tags": []}', "holds 0 different tags"),
        ("t.parquet", "PAR1", "cannot be read as parquet"),
    ],
)
def test_tables_of_another_form_are_refused_with_the_place(pictures, name, text, message):
    (pictures / name).write_text(text)
    with pytest.raises(UserError, match=message):
        _ = open_folder(pictures).names


def test_free_text_is_no_list_of_tags(pictures):
    rows = [{"file": f"{i}.png", "caption": f"this is number {i}"} for i in range(5000)]
    write_jsonl(pictures / "t.jsonl", rows)
    with pytest.raises(UserError, match="holds 5000 different tags; it takes 1 to 4096"):
        _ = open_folder(pictures).names


def test_tables_that_are_no_text_are_told(pictures):
    (pictures / "t.csv").write_bytes("file,größe".encode("latin-1"))
    with pytest.raises(UserError, match="is no text in UTF-8"):
        _ = open_folder(pictures).names


def test_quoted_fields_may_hold_anything(pictures):
    text = "file,tags\r\n" + "".join(
        f'"pictures/{i}.png","{",".join(tags_of(i))},odd \u2028 one"\r\n' for i in range(NUM)
    )
    (pictures / "t.csv").write_text(text, newline="", encoding="utf-8")
    data = open_folder(pictures, attributes=["dark", "small"])
    assert labels_by_number(*data.load()) == BITS


def test_a_table_outside_the_folder_is_not_read(pictures):
    write_csv(pictures.parent / "t.csv", ROWS)
    (pictures / "t.csv").symlink_to("../t.csv")
    for options in ({}, {"table": "t.csv"}, {"table": "../t.csv"}):
        with pytest.raises(UserError, match="is a link that leads out of"):
            _ = open_folder(pictures, **options).names


# Parquet files with images in them


def encoded(i: int) -> dict[str, bytes]:
    file = io.BytesIO()
    Image.fromarray(shade(i)).save(file, "PNG")
    return {"bytes": file.getvalue()}


def write_images(path: Path, numbers: list[int], columns: dict, names: list[str] | None) -> None:
    table = pa.table({"image": [encoded(i) for i in numbers], **columns})
    if names is not None:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, row_group_size=3)


@pytest.mark.parametrize("names", [None, ["tail", "head"]])
def test_parquet_files_hold_images_with_classes(root, names):
    for part, numbers in (("train-0", range(7)), ("train-1", range(7, 10)), ("test-0", (10, 11))):
        columns = {"label": [i % 2 for i in numbers]}
        write_images(root / "data" / f"{part}.parquet", list(numbers), columns, names)
    data = open_folder(root)
    assert data.names == (("0", "1") if names is None else ("head", "tail"))
    train, heldout = data.load()
    expected = {i: i % 2 if names is None else 1 - i % 2 for i in range(NUM)}
    assert labels_by_number(train) == {i: expected[i] for i in range(10)}
    assert labels_by_number(heldout) == {i: expected[i] for i in (10, 11)}


def test_parquet_files_hold_images_with_attributes(root):
    columns = {"dark": [i < 6 for i in range(NUM)], "small": [i % 3 == 0 for i in range(NUM)]}
    write_images(root / "all.parquet", list(range(NUM)), columns, None)
    train, heldout = open_folder(root).load()
    assert len(heldout) >= 1
    assert labels_by_number(train, heldout) == BITS


def test_classes_without_a_name_are_told(root):
    columns = {"label": [0, 1, 2]}
    write_images(root / "test.parquet", [0, 1, 2], columns, ["head", "tail"])
    with pytest.raises(UserError, match=r"row 2 of test\.parquet in .* has the label 2"):
        _ = open_folder(root).names


def test_each_parquet_file_names_its_own_classes(root):
    """Shards of two people number the classes as each met them; a number means nothing alone."""
    shards = {"a": (["tail", "head"], 0), "b": (["head", "tail"], 6)}
    for shard, (names, first) in shards.items():
        columns = {"label": [names.index(("head", "tail")[i % 2]) for i in range(6)]}
        write_images(root / f"{shard}.parquet", list(range(first, first + 6)), columns, names)
    data = open_folder(root)
    assert data.names == ("head", "tail")
    assert labels_by_number(*data.load()) == {i: i % 2 for i in range(NUM)}
    for without in ("a", "b"):
        names, first = shards[without]
        columns = {"label": [0, 1] * 3}
        write_images(root / f"{without}.parquet", list(range(first, first + 6)), columns, None)
        with pytest.raises(UserError, match=rf"{without}\.parquet has numbers without names"):
            _ = open_folder(root).names
        columns = {"label": ["head", "tail"] * 3}
        write_images(root / f"{without}.parquet", list(range(first, first + 6)), columns, None)
        assert open_folder(root).names == ("head", "tail")


# Order and splits


def test_numbers_sort_as_numbers_and_folders_stay_together():
    names = ["b/2.png", "b/10.png", "b-c/1.png", "2.png", "10.png", "a/1.png", "01.png", "1.png"]
    expected = [
        "01.png",
        "1.png",
        "2.png",
        "10.png",
        "a/1.png",
        "b/2.png",
        "b/10.png",
        "b-c/1.png",
    ]
    assert sorted(names, key=natural_key) == expected


def test_images_are_known_by_their_extension(root):
    for name in ("a.JPG", "b.jpeg", "c.webp", "d.txt", "e.json", "f.tif", "g", "h.npy", ".i.png"):
        (root / name).touch()
    assert FolderTree(root).image_names == ["a.JPG", "b.jpeg", "c.webp", "f.tif"]
