"""What becomes of image sets as people have them: the right classes, or a message."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccdiff.data import Folder
from ccdiff.data.files.heldout import draw_heldout, groups_of
from ccdiff.data.files.names import NameSettings, classes_by_name, nearly_alike
from ccdiff.data.files.splits import split_of
from ccdiff.errors import UserError

RANDOM = np.random.default_rng(0)
Counts = dict[str, tuple[int, int]]


def put(path: Path, k: int = 0, **options) -> None:
    """An image of its own, whose red part tells its class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    pixels[..., 0] = 40 * k
    Image.fromarray(pixels).save(path, **options)


def open_folder(root: Path, **options) -> Folder:
    settings = {"image_size": 6, "channels": 3, "flip": False, "cache": str(root.parent / "cache")}
    return Folder(root=str(root), **{**settings, **options})


def counts(data: Folder) -> Counts:
    """Training and held-out images of each class or attribute."""
    train, heldout = (split.count_labels(len(data.names)).tolist() for split in data.load())
    return dict(zip(data.names, zip(train, heldout, strict=True), strict=True))


def total(data: Folder) -> dict[str, int]:
    return {name: sum(both) for name, both in counts(data).items()}


def reds(data: Folder) -> dict[str, set[int]]:
    """The colours that the images of each class have: labels belong to their images."""
    return {
        name: {
            round(int(image[0, 0, 0]) / 40)
            for split in data.load()
            for image, label in zip(split.images, split.labels.tolist(), strict=True)
            if label == i
        }
        for i, name in enumerate(data.names)
    }


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


# StyleGAN, EDM and EDM2


def shards(root: Path, labels) -> None:
    entries = []
    for i in range(60):
        name = f"{i // 20:05d}/img{i:08d}.png"
        put(root / name, i % 4)
        entries.append([name, labels(i)])
    (root / "dataset.json").write_text(json.dumps({"labels": entries}))


@pytest.mark.parametrize(
    "labels",
    [lambda i: i % 4, lambda i: float(i % 4), lambda i: [int(k == i % 4) for k in range(4)]],
    ids=["index", "float", "one-hot"],
)
def test_dataset_json_makes_classes_and_shards_do_not(root, labels):
    shards(root, labels)
    data = open_folder(root)
    assert total(data) == {"0": 15, "1": 15, "2": 15, "3": 15}
    assert reds(data) == {str(k): {k} for k in range(4)}


def test_dataset_json_of_vectors_makes_attributes(root):
    shards(root, lambda i: [1, i % 2, int(i % 4 == 0)])
    assert total(open_folder(root)) == {"0": 60, "1": 30, "2": 15}


def test_the_archive_is_read_as_the_folder_is(root):
    shards(root, lambda i: i % 4)
    archive = shutil.make_archive(str(root.parent / "packed"), "zip", root)
    unpacked, packed = open_folder(root), open_folder(Path(archive))
    assert packed.names == unpacked.names
    for one, other in zip(unpacked.load(), packed.load(), strict=True):
        assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON with labels"),
        ('{"labels": null}', r"has no labels: pass data\.classes=none"),
        ('{"labels": [["a.npy", 0]]}', r"arrays \(a\.npy\), the latents"),
        ('{"labels": [["a.png", [0.5]]]}', "not all 0 and 1"),
        ('{"labels": [["a.png", "x"]]}', "no class and no vector"),
        ('{"labels": [["a.png", 0], ["./a.png", 1]]}', "a second time"),
    ],
)
def test_dataset_json_that_says_something_else_is_told(root, content, message):
    put(root / "a.png")
    (root / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=message):
        _ = open_folder(root).names


def test_shards_without_labels_are_no_classes(root):
    for i in range(40):
        put(root / f"{i // 20:05d}" / f"{i:05d}.png")
    with pytest.raises(
        UserError, match=r"(?s)two ways.*data\.classes=folders.*data\.classes=none"
    ):
        _ = open_folder(root).names
    assert total(open_folder(root, classes="none")) == {"image": 40}
    assert total(open_folder(root, classes="folders")) == {"00000": 20, "00001": 20}


def test_numbered_classes_are_no_shards(root):
    for i in range(40):
        put(root / str(i % 2) / f"{i}.png", i % 2)
    assert reds(open_folder(root)) == {"0": {0}, "1": {1}}


@pytest.mark.parametrize(
    "names",
    [
        [f"{i % 4:04d}/{1000 * (i // 4 + 1) + i % 4}.png" for i in range(12)],
        [f"{i % 10:02d}/{i + 20}.png" for i in range(40)],
        [
            f"{h[:2]}/{h}.png"
            for h in (f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" for i in range(30))
        ],
    ],
    ids=["last three digits", "last digit", "hash"],
)
def test_folders_that_repeat_the_names_of_their_files_are_no_classes(names):
    with pytest.raises(UserError, match=r"(?s)two ways.*part one long list.*classes=none"):
        classes_of(names)
    assert set(classes_of(names, classes="none")[0].values()) == {"image"}


@pytest.mark.parametrize(
    "names",
    [
        [f"{k:02d}/{i}.png" for k in range(3) for i in range(9)],
        [f"{k}/{k}_{i}.png" for k in range(3) for i in range(9)],
        [f"{k:05d}/00000_{i:05d}.png" for k in range(3) for i in range(9)],
    ],
)
def test_numbers_of_classes_are_no_beginnings(names):
    labels, _ = classes_of(names)
    assert set(labels.values()) == {name.split("/")[0] for name in names}


# Tables in folders of a split


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_tables_in_a_split_are_those_of_its_images(root, suffix):
    for part, n in (("train", 12), ("test", 6)):
        rows = [{"file_name": f"{i:03d}.png", "label": "abc"[i % 3]} for i in range(n)]
        for i in range(n):
            put(root / part / rows[i]["file_name"], i % 3)
        write_table(root / part / f"metadata{suffix}", rows)
    data = open_folder(root)
    assert counts(data) == {"a": (4, 2), "b": (4, 2), "c": (4, 2)}
    assert reds(data) == {"a": {0}, "b": {1}, "c": {2}}


def test_a_table_in_the_training_folder_alone(root):
    rows = [{"image_file_name": f"{i:03d}.png", "label": "abc"[i % 3]} for i in range(20)]
    for i, row in enumerate(rows):
        put(root / "train" / row["image_file_name"], i % 3)
    write_table(root / "train" / "metadata.jsonl", rows)
    data = open_folder(root)
    assert total(data) == {"a": 7, "b": 7, "c": 6}
    assert reds(data) == {"a": {0}, "b": {1}, "c": {2}}


def test_a_split_that_the_paths_of_a_table_tell(root):
    rows = [
        {"file_name": f"{'test' if i % 4 == 0 else 'train'}/{i}.png", "label": i % 3}
        for i in range(24)
    ]
    for i, row in enumerate(rows):
        put(root / row["file_name"], i % 3)
    write_table(root / "metadata.csv", rows)
    assert counts(open_folder(root)) == {"0": (6, 2), "1": (6, 2), "2": (6, 2)}


def write_table(path: Path, rows: list[dict]) -> None:
    if path.suffix == ".csv":
        lines = [",".join(map(str, row.values())) for row in rows]
        path.write_text("\n".join([",".join(rows[0]), *lines]))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)


# Tables as competitions and tools write them


def flat(root: Path, n: int = 18, suffix: str = ".png") -> list[str]:
    """Images whose colour goes round in threes; returns their names without an ending."""
    for i in range(n):
        put(root / "images" / f"Train_{i}{suffix}", i % 3)
    return [f"Train_{i}" for i in range(n)]


@pytest.mark.parametrize("column", ["Image Index", "ImageId", "image_name", "Image-Path", "FILE"])
def test_a_column_of_files_is_known_in_any_spelling(root, column):
    names = flat(root)
    lines = [f"{column},label", *(f"{name},{'abc'[i % 3]}" for i, name in enumerate(names))]
    (root / "t.csv").write_text("\n".join(lines))
    assert reds(open_folder(root)) == {"a": {0}, "b": {1}, "c": {2}}


def test_ids_name_images_where_each_is_one(root, caplog):
    names = flat(root)
    lines = ["id,label", *(f"{name},{'abc'[i % 3]}" for i, name in enumerate(names))]
    (root / "t.csv").write_text("\n".join(lines))
    assert reds(open_folder(root)) == {"a": {0}, "b": {1}, "c": {2}}
    assert "the column 'id' of" in caplog.text
    (root / "t.csv").write_text("\n".join([*lines, "18,a"]))
    with pytest.raises(UserError, match=r"no column of .*t\.csv names the image"):
        _ = open_folder(root).names


def test_what_competitions_lay_beside_the_labels_is_told_and_not_used(root, caplog):
    names = flat(root)
    head = "image_id,healthy,rust,scab"
    rows = [
        f"{name},{','.join(str(int(i % 3 == k)) for k in range(3))}"
        for i, name in enumerate(names)
    ]
    (root / "train.csv").write_text("\n".join([head, *rows]))
    (root / "test.csv").write_text("image_id\nTest_0\n")
    (root / "sample_submission.csv").write_text(f"{head}\nTest_0,0.25,0.25,0.5\n")
    (root / "notes.csv").write_text("author,year\nx,2020\n")
    assert total(open_folder(root)) == {"healthy": 6, "rust": 6, "scab": 6}
    for told in (
        "sample_submission.csv is for answers that are handed in",
        "test.csv has no labels",
        "no column of notes.csv names images",
        "has exactly one of the attributes healthy, rust, scab",
    ):
        assert told in caplog.text


def test_tables_that_differ_in_the_word_for_the_split_are_its_parts(root):
    for part, n in (("train", 12), ("val", 6)):
        rows = [{"file": f"{part}/{i}.png", "label": "abc"[i % 3]} for i in range(n)]
        for i, row in enumerate(rows):
            put(root / row["file"], i % 3)
        write_table(root / f"faces_label_{part}.csv", rows)
    data = open_folder(root)
    assert counts(data) == {"a": (4, 2), "b": (4, 2), "c": (4, 2)}
    assert reds(data) == {"a": {0}, "b": {1}, "c": {2}}


@pytest.mark.parametrize("other", ["boxes_label_val.csv", "faces_label.csv"])
def test_other_tables_are_not_taken_for_parts(root, other):
    for name in ("faces_label_train.csv", other):
        (root / name).write_text("file,label\n1.png,a\n")
    put(root / "1.png")
    with pytest.raises(UserError, match=r"several tables: pass data\.table=<one of"):
        _ = open_folder(root).names


def test_an_image_with_several_rows_is_told_where_its_labels_go(root):
    put(root / "1.png")
    (root / "t.csv").write_text("ImageID,label\n1,a\n1,b\n")
    with pytest.raises(UserError, match=r"image 2 .* a second time: an image has one row"):
        _ = open_folder(root).names


@pytest.mark.parametrize("place", ["/home/me/set/{}.png", "C:\\set\\{}.png", "s3://set/a/{}.png"])
def test_places_on_another_machine_are_looked_for_where_the_images_are(root, place):
    names = flat(root)
    put(root / "other" / "Train_0.png", 5)
    lines = ["file,label", *(f"{place.format(n)},{'abc'[i % 3]}" for i, n in enumerate(names))]
    (root / "t.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"on another machine, .*pass data\.images=.*Train_0\.png"):
        _ = open_folder(root).names
    assert reds(open_folder(root, images="images")) == {"a": {0}, "b": {1}, "c": {2}}


def test_places_from_the_root_on_this_machine_are_read(root):
    names = flat(root)
    lines = [f"{root / 'images' / n}.png,{'abc'[i % 3]}" for i, n in enumerate(names)]
    (root / "t.csv").write_text("\n".join(["file,label", *lines]))
    assert reds(open_folder(root)) == {"a": {0}, "b": {1}, "c": {2}}


def test_pixels_in_a_table_are_told(root):
    (root / "train.csv").write_text(
        "\n".join(["label," + ",".join(f"pixel{k}" for k in range(784)), "3" + ",0" * 784])
    )
    with pytest.raises(UserError, match=r"pixels in a table are not read") as error:
        _ = open_folder(root).names
    put(root / "1.png")
    with pytest.raises(UserError, match=r"pixel18 and 765 more; call it one of"):
        _ = open_folder(root).names
    assert len(str(error.value)) < 400


# Annotations of COCO


def coco(root: Path, **changes) -> None:
    for i in range(12):
        put(root / "train2017" / f"{i:012d}.png", i % 3)
    content = {
        "images": [{"id": 100 + i, "file_name": f"{i:012d}.png"} for i in range(12)],
        "annotations": [{"image_id": 100 + i, "category_id": 7 + i % 3} for i in range(12)],
        "categories": [
            {"id": 7 + k, "name": name} for k, name in enumerate(("cat", "dog", "fox"))
        ],
        **changes,
    }
    path = root / "annotations" / "instances_train2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))


def test_annotations_of_one_category_each_are_classes(root):
    coco(root)
    assert reds(open_folder(root)) == {"cat": {0}, "dog": {1}, "fox": {2}}


def test_annotations_of_several_categories_are_attributes(root):
    several = [{"image_id": 100 + i, "category_id": 7} for i in range(0, 12, 2)]
    coco(root, annotations=[*several, *several, {"image_id": 102, "category_id": 9}])
    data = open_folder(root)
    assert total(data) == {"cat": 6, "fox": 1}
    assert sum(len(split) for split in data.load()) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"annotations": [{"image_id": 3, "category_id": 7}]},
        {"annotations": [{"image_id": 100, "category_id": 1}]},
        {"images": [{"id": 100}]},
        {"categories": [{"id": 7 + k, "name": "cat"} for k in range(3)]},
    ],
)
def test_annotations_that_do_not_fit_are_refused(root, changes):
    coco(root, **changes)
    with pytest.raises(UserError, match=r"instances_train2017\.json (looks like|has two)"):
        _ = open_folder(root).names


# Lists without a header


@pytest.mark.parametrize("line", ["{}.png {}", "images/{}.png\t{}", "{},{}"])
@pytest.mark.parametrize("told", [None, "list.txt"])
def test_a_list_without_a_header_makes_classes(root, caplog, line, told):
    names = flat(root)
    lines = [line.format(name, "abc"[i % 3]) for i, name in enumerate(names)]
    (root / "list.txt").write_text("\n".join(lines) + "\n")
    assert reds(open_folder(root, table=told)) == {"a": {0}, "b": {1}, "c": {2}}
    assert ("list.txt has no header" in caplog.text) == (told is None)


def test_lists_of_a_split_are_its_parts(root):
    names = flat(root)
    for part, some in (("train", range(12)), ("val", range(12, 18))):
        (root / f"{part}.txt").write_text("\n".join(f"{names[i]} {i % 3}" for i in some))
    assert counts(open_folder(root)) == {"0": (4, 2), "1": (4, 2), "2": (4, 2)}


def test_several_lists_are_not_guessed_among(root):
    names = flat(root)
    for kind in ("maker", "model"):
        (root / f"{kind}.txt").write_text("\n".join(f"{name} {kind[0]}" for name in names))
    with pytest.raises(
        UserError, match=r"data\.table=<one of maker\.txt, model\.txt>.*classes=none"
    ):
        _ = open_folder(root).names
    assert total(open_folder(root, classes="none")) == {"image": 18}


@pytest.mark.parametrize(
    "lines",
    [
        ["{} 0.5", "{} 1.5", "{} 0.5"],  # numbers
        ["{} x", "{} y", "{} z"],  # no class has two images
        ["{} x.png", "{} x.png", "{} y.png"],  # pairs of images
        ["{} 1 2", "{} 3 4", "{} 5 6"],
        ["{} x", "{} x", "other x"],
    ],
)
def test_texts_that_are_no_lists_are_passed_over(root, caplog, lines):
    names = flat(root, n=3)
    text = [line.format(name) for line, name in zip(lines, names, strict=True)]
    (root / "notes.txt").write_text("\n".join(text))
    assert open_folder(root).names == ("image",)
    assert "1 files that are no images are passed over: 1 .txt" in caplog.text


def test_folders_of_classes_count_before_a_list(root):
    for i in range(12):
        put(root / "ab"[i % 2] / f"{i}.png", i % 2)
    (root / "val.txt").write_text("\n".join(f"{'ab'[i % 2]}/{i}.png {i % 3}" for i in range(6)))
    assert reds(open_folder(root)) == {"a": {0}, "b": {1}}


# Kaggle's CelebA


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_celeba_in_place(root, suffix, caplog):
    names = [f"{i:06d}.jpg" for i in range(1, 31)]
    smiling, male = ([1 if i % k else -1 for i in range(30)] for k in (2, 3))
    for i, name in enumerate(names):
        put(root / "img_align_celeba" / "img_align_celeba" / name, i % 2)
    bits = list(zip(names, smiling, male, strict=True))
    if suffix == "csv":
        lines = ["image_id,Smiling,Male", *(f"{n},{s},{m}" for n, s, m in bits)]
    else:
        lines = ["30", "Smiling Male", *(f"{n}  {s} {m}" for n, s, m in bits)]
    (root / f"list_attr_celeba.{suffix}").write_text("\n".join(lines))
    parts = [0 if i < 20 else 1 if i < 25 else 2 for i in range(30)]
    (root / "list_eval_partition.csv").write_text(
        "\n".join(["image_id,partition", *(f"{n},{p}" for n, p in zip(names, parts, strict=True))])
    )
    (root / "list_bbox_celeba.csv").write_text("image_id,x_1\n000001.jpg,95\n")
    data = open_folder(root)
    assert counts(data) == {"Smiling": (10, 5), "Male": (13, 7)}
    assert "list_eval" not in caplog.text
    train, heldout = data.load()
    assert (len(train), len(heldout)) == (20, 10)


# Names of folders and files


def classes_of(names: list[str], **settings):
    found = classes_by_name(names, where="set", settings=NameSettings(**settings))
    return dict(zip(found.files, found.labels, strict=True)), found


def test_a_folder_that_wraps_the_classes_is_none():
    names = [f"a/b/{c}/{i}.png" for c in ("cat", "dog") for i in range(3)]
    labels, _ = classes_of(names)
    assert set(labels.values()) == {"cat", "dog"}


def test_a_split_beside_another_folder_is_told():
    names = [f"{p}/{c}/{i}.png" for p in ("train", "test") for c in ("cat", "dog") for i in (1, 2)]
    labels, found = classes_of([*names, "docs/figure.png"])
    assert set(labels) == set(names)
    assert set(labels.values()) == {"cat", "dog"}
    assert found.heldout == [name.startswith("test") for name in found.files]
    assert any("docs" in one for one in found.told)
    labels, _ = classes_of([*names, "docs/figure.png"], split_folders=False)
    assert set(labels.values()) == {"train", "test", "docs"}


@pytest.mark.parametrize(
    "names",
    [
        ["train/1.png", "test/1.png", "car/1.png"],
        ["train/cat/1.png", "train/dog/1.png", "docs/1.png"],
        ["seg_train/cat/1.png", "seg_test/cat/1.png", "seg_pred/1.png"],
        ["test/1.png", "val/2.png"],
        ["photo/cat/1.png", "photo/dog/1.png", "sketch/cat/1.png", "sketch/dog/1.png"],
        ["cat/1.png", "dog/2.png", "masks/1.png"],
        ["cat_1.png", "cat_2.png", "dog_1.png", "dog_2.png"],
    ],
)
def test_two_readings_are_both_shown_with_what_decides(names):
    with pytest.raises(
        UserError, match=r"(?s)two ways:\n.*pass data\.\w+=.*\n.*pass .*data\.\w+=|"
    ):
        classes_of(names)
    with pytest.raises(UserError) as error:
        classes_of(names)
    assert str(error.value).count("pass ") == 2


def test_words_around_train_are_settled_by_a_setting():
    names = ["seg_train/cat/1.png", "seg_train/dog/1.png", "seg_test/cat/1.png", "pred/1.png"]
    labels, found = classes_of(names, split_folders=True)
    assert set(labels.values()) == {"cat", "dog"}
    assert sum(found.heldout) == 1


def test_domains_and_classes_are_settled_by_a_setting():
    names = [f"{d}/{c}/1.png" for d in ("photo", "sketch") for c in ("cat", "dog")]
    assert set(classes_of(names, classes="folders")[0].values()) == {"photo", "sketch"}
    assert set(classes_of(names, classes="deepest")[0].values()) == {"cat", "dog"}


def test_the_deepest_folders_are_shown_as_they_would_be_read():
    names = [f"{c}/{i}.png" for c in ("a/abbey", "a/barn", "b/bank", "b/x/shop") for i in (1, 2)]
    with pytest.raises(UserError, match="the classes abbey, barn, bank, shop: pass"):
        classes_of(names)
    deepest = {"abbey", "barn", "bank", "shop"}
    assert set(classes_of(names, classes="deepest")[0].values()) == deepest


@pytest.mark.parametrize("place", ["masks", "annotations/trimaps", "SegmentationClass"])
def test_masks_in_folders_of_their_own_are_not_used(place):
    names = [f"images/{i}.png" for i in range(4)] + [f"{place}/{i}.png" for i in range(4)]
    labels, found = classes_of(names)
    assert set(labels) == set(names[:4])
    assert "4 images in" in found.told[0]


def test_masks_beside_their_images_are_not_used():
    names = ["a/1.png", "a/1_mask.png", "b/2.png", "b/2_mask.png", "b/gas_mask.png"]
    labels, found = classes_of(names)
    assert labels == {"a/1.png": "a", "b/2.png": "b", "b/gas_mask.png": "b"}
    assert "2 masks" in found.told[0]


@pytest.mark.parametrize("pattern", ["{}_{}.jpg", "{}.{}.jpg", "{}{}.jpg", "{} ({}).jpg"])
def test_prefixes_are_classes_where_asked_for(pattern):
    names = [pattern.format(c, i) for c in ("great dane", "pug") for i in (1, 20)]
    assert set(classes_of(names, classes="prefix")[0].values()) == {"great dane", "pug"}


@pytest.mark.parametrize(
    "names", [["1.png", "2.png"], ["IMG_1.png", "IMG_2.png"], ["alice.png", "bob.png"]]
)
def test_images_without_any_class_are_one(names):
    assert set(classes_of(names)[0].values()) == {"image"}


@pytest.mark.parametrize(
    ("name", "heldout"),
    [
        ("train", False),
        ("Training_set", False),
        ("train2017", False),
        ("test", True),
        ("val_images", True),
        ("validation-00000-of-00002", True),
        ("trainers", None),
        ("a train", None),
        ("cat", None),
    ],
)
def test_words_that_say_what_is_held_out(name, heldout):
    assert split_of(name) is heldout


def test_what_systems_leave_is_no_class(root):
    for i in range(12):
        put(root / "cat" / f"{i}.png", 0)
        put(root / "dog" / f"{i}.png", 1)
    for name in ("@eaDir", "__MACOSX", "#recycle", ".thumbnails"):
        put(root / name / "0.png", 5)
        put(root / "cat" / name / "0.png", 5)
    assert total(open_folder(root)) == {"cat": 12, "dog": 12}


def test_a_single_class_is_told(root, caplog):
    for i in range(12):
        put(root / f"{i}.png")
    assert total(open_folder(root)) == {"image": 12}
    assert "all images are of one class, image" in caplog.text


# Kinds of files


def test_images_are_known_by_any_ending_and_by_content(root, caplog):
    for i in range(10):
        put(root / "cat" / f"{i}.png", 0)
        put(root / "dog" / f"{i}.jfif", 1, format="JPEG")
        put(root / "fox" / f"{i}.jpe", 2, format="JPEG")
        put(root / "owl" / f"{i}.JPG", 3, format="JPEG")
        put(root / "cow" / str(i), 4, format="JPEG")
    (root / "LICENSE").write_text("free")
    (root / "cat" / "film.mp4").write_text("moving")
    data = open_folder(root)
    assert total(data) == dict.fromkeys(("cat", "cow", "dog", "fox", "owl"), 10)
    assert "2 files that are no images are passed over: 1 .mp4, 1 no ending" in caplog.text


# Cells


def cells(root: Path, labels: list) -> Folder:
    rows = [{"file_name": f"{i:02d}.png", "label": label} for i, label in enumerate(labels)]
    for i in range(len(rows)):
        put(root / f"{i:02d}.png", i % 3)
    write_table(root / "labels.jsonl", rows)
    return open_folder(root)


@pytest.mark.parametrize("missing", [None, float("nan"), "", "NaN"])
def test_a_cell_without_a_value_is_refused_with_its_row(root, missing):
    data = cells(root, ["a", "b", missing, "a"])
    with pytest.raises(UserError, match=r"image 3 of .* has no 'label'"):
        _ = data.names


def test_whole_numbers_of_pandas_are_classes(root):
    assert total(cells(root, [float(i % 3) for i in range(20)])) == {"0": 7, "1": 7, "2": 6}


def test_a_fraction_is_no_class(root):
    with pytest.raises(UserError, match=r"image 2 .*0\.5, which is no class: round"):
        _ = cells(root, [0.0, 0.5, 1.0]).names


def test_lists_are_attributes(root):
    data = cells(root, [["a", "b"] if i % 3 else ["a"] for i in range(20)])
    assert total(data) == {"a": 20, "b": 13}


def test_lists_as_pandas_writes_them_are_attributes(root):
    for i in range(12):
        put(root / f"{i}.png")
    rows = [
        "file,tags",
        *(f"{i}.png,\"['a', 'b']\"" if i % 2 else f"{i}.png,['a']" for i in range(12)),
    ]
    (root / "t.csv").write_text("\n".join(rows))
    assert total(open_folder(root)) == {"a": 12, "b": 6}


def test_booleans_are_classes_and_attributes(root):
    assert total(cells(root, [i % 2 == 0 for i in range(12)])) == {"False": 6, "True": 6}


def test_unlabelled_images_are_left_out_and_told(root, caplog):
    data = cells(root, [i % 3 if i < 12 else -1 for i in range(16)])
    assert total(data) == {"0": 4, "1": 4, "2": 4}
    assert "4 images of" in caplog.text


def test_minus_one_beside_zero_and_one_can_be_read_in_two_ways(root):
    with pytest.raises(UserError, match="-1, 0 and 1, which can be read in two ways"):
        _ = cells(root, [-1, 0, 1, 1]).names


def test_an_attribute_of_three_values_is_refused(root):
    put(root / "0.png")
    (root / "t.csv").write_text("file,round\n0.png,1\n1.png,0\n2.png,-1\n")
    with pytest.raises(UserError, match=r"'round' .* holds -1, 0 and 1"):
        _ = open_folder(root).names


@pytest.mark.parametrize("text", ["file,a,a\n0.png,1,0\n", "file,a, a \n0.png,1,0\n"])
def test_a_column_named_twice_is_refused(root, text):
    put(root / "0.png")
    (root / "t.csv").write_text(text)
    with pytest.raises(UserError, match="has the column 'a' twice"):
        _ = open_folder(root).names


def test_a_key_named_twice_is_refused(root):
    (root / "t.jsonl").write_text('{"file": "0.png", "a": 1, "a": 0}')
    with pytest.raises(UserError, match="a key stands twice"):
        _ = open_folder(root).names


@pytest.mark.parametrize("other", ["./0.png", "x/../0.png", "set\\..\\0.png"])
def test_a_file_named_twice_in_two_spellings_is_refused(root, other):
    put(root / "0.png")
    (root / "t.csv").write_text(f"file,a\n0.png,1\n{other},0\n")
    with pytest.raises(UserError, match=r"which is '0\.png' of image 1, a second time"):
        _ = open_folder(root).names


def test_accents_are_one_name_in_either_spelling(root):
    for i in range(12):
        put(root / f"e\u0301{i}.png", i % 2)
    (root / "t.csv").write_text(
        "\n".join(["file,label", *(f"\u00e9{i}.png,{'ab'[i % 2]}" for i in range(12))])
    )
    assert reds(open_folder(root)) == {"a": {0}, "b": {1}}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " ", "^"])
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_any_delimiter_parts_the_fields(root, delimiter, suffix):
    for i in range(12):
        put(root / f"{i}.png", i % 2)
    lines = ["file label", *(f"{i}.png {'ab'[i % 2]}" for i in range(12))]
    (root / f"t{suffix}").write_text("\n".join(lines).replace(" ", delimiter))
    (root / "README.txt").write_text("pictures of things\n")
    assert reds(open_folder(root)) == {"a": {0}, "b": {1}}


@pytest.mark.parametrize(
    "content",
    [
        {f"{i}.png": "ab"[i % 2] for i in range(12)},
        {f"{i}.png": {"label": "ab"[i % 2], "width": 6} for i in range(12)},
        [{"file_name": f"{i}.png", "label": "ab"[i % 2]} for i in range(12)],
    ],
    ids=["mapping", "mapping of objects", "list"],
)
def test_json_is_a_table_where_it_names_images(root, content):
    for i in range(12):
        put(root / f"{i}.png", i % 2)
    (root / "labels.json").write_text(json.dumps(content))
    (root / "annotations.json").write_text(json.dumps({"images": [], "categories": []}))
    (root / "package.json").write_text("{")
    assert reds(open_folder(root)) == {"a": {0}, "b": {1}}


def test_texts_that_belong_to_an_image_each_are_no_tables(root):
    for i in range(24):
        put(root / "ab"[i % 2] / f"{i}.png", i % 2)
        (root / "ab"[i % 2] / "boxes").mkdir(exist_ok=True)
        (root / "boxes").mkdir(exist_ok=True)
        (root / "boxes" / f"{i}.txt").write_text("file label\n0.png 1\n")
    assert reds(open_folder(root)) == {"a": {0}, "b": {1}}


def test_columns_are_chosen_by_settings(root):
    for i in range(12):
        put(root / "deep" / "down" / f"{i}.png", i % 3)
        put(root / "small" / f"{i}.png", 5)
    rows = [
        {"number": i, "fine_label": "abc"[i % 3], "coarse_label": "xy"[i % 3 == 0], "note": "no"}
        for i in range(12)
    ]
    write_table(root / "t.csv", rows)
    with pytest.raises(UserError, match=r"no column of .* names the image.*data\.file_column"):
        _ = open_folder(root).names
    options = {"file_column": "number", "class_column": "fine_label"}
    with pytest.raises(UserError, match=r"fine_label, coarse_label may each .*data\.class_column"):
        _ = open_folder(root, file_column="number", images="deep").names
    with pytest.raises(
        UserError, match=r"there are 2 such images: pass data\.images=<one of deep"
    ):
        _ = open_folder(root, **options).names
    data = open_folder(root, images="deep/down", **options)
    assert reds(data) == {"a": {0}, "b": {1}, "c": {2}}
    coarse = {**options, "class_column": "coarse_label"}
    assert total(open_folder(root, images="deep", **coarse)) == {"x": 8, "y": 4}
    with pytest.raises(UserError, match=r"data\.class_column=kind is no column"):
        _ = open_folder(root, images="deep", **{**options, "class_column": "kind"}).names


# What is held out


def test_each_class_is_trained_on_and_held_out(root):
    for i in range(200):
        put(root / f"{i:04d}.png")
    lines = [f"{i:04d}.png,{'abcdefghij'[i % 10]}" for i in range(200)]
    (root / "labels.csv").write_text("\n".join(["file,label", *lines]))
    assert all(min(both) > 0 and sum(both) == 20 for both in counts(open_folder(root)).values())


def test_each_value_of_an_attribute_is_trained_on_and_held_out():
    names = [f"{i:04d}.png" for i in range(200)]
    labels = np.array([[i % 10 == 9, i % 2, i == 7] for i in range(200)], dtype=np.uint8)
    held = draw_heldout(names, labels, 0.1)
    for group in groups_of(labels):
        assert not held[group].all()
        assert held[group].any() or len(group) == 1
    assert 8 <= held.sum() <= 35


def test_a_class_of_one_image_is_trained_on_and_told(root):
    for i in range(9):
        put(root / "common" / f"{i}.png", 0)
    put(root / "rare" / "0.png", 1)
    assert counts(open_folder(root))["rare"] == (1, 0)


@pytest.mark.parametrize("sizes", [[1, 1, 40], [5, 6, 7], [100, 300], [2, 2]])
def test_added_images_move_no_others(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"{k}/{i}.png" for i, k in enumerate(labels)]
    before = draw_heldout(names, labels, 0.2)
    more = [f"{len(sizes)}/{i}.png" for i in range(50)]
    added = np.concatenate([np.full(50, len(sizes)), labels])
    after = draw_heldout([*more, *names], added, 0.2)
    big = [k for k, n in enumerate(sizes) if n >= 5]
    same = np.isin(labels, big)
    assert np.array_equal(after[50:][same], before[same])
    # Within a class too, unless an image changed sides for want of another.
    everything = draw_heldout([f"a/{i}" for i in range(2000)], np.zeros(2000, np.int64), 0.1)
    half = draw_heldout([f"a/{i}" for i in range(1000)], np.zeros(1000, np.int64), 0.1)
    assert np.array_equal(everything[:1000], half)
    assert 0.08 < everything.mean() < 0.12


def test_a_damaged_archive_is_told(root):
    path = root.parent / "x.zip"
    path.write_bytes(b"PK nonsense")
    with pytest.raises(UserError, match="cannot be read as a zip archive"):
        _ = open_folder(path).names


def test_members_of_an_archive_stay_in_it(root):
    path = root.parent / "x.zip"
    put(root / "1.png")
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(12):
            archive.write(root / "1.png", f"../../{'ab'[i % 2]}/{i}.png")
    assert set(total(open_folder(path))) == {"a", "b"}
    assert not (root.parent.parent / "a").exists()


def listed(root: Path, header: str, rows: list[str]) -> None:
    """A table as it is typed, with its images."""
    for i in range(len(rows)):
        put(root / f"{i}.png")
    (root / "table.csv").write_text("\n".join([header, *rows]))


@pytest.mark.parametrize(
    ("column", "held"), [("is_train", "0"), ("is_training_image", "0"), ("Is_Test", "1")]
)
def test_a_flag_says_what_is_held_out_and_is_no_attribute(root, column, held):
    for kind in ("label", "red,big"):
        cells = [("ab"[i % 2] if kind == "label" else f"{i % 2},{i // 2 % 2}") for i in range(12)]
        flags = [held if i % 3 == 0 else str(1 - int(held)) for i in range(12)]
        rows = [
            f"{i}.png,{cell},{flag}"
            for i, (cell, flag) in enumerate(zip(cells, flags, strict=True))
        ]
        listed(root, f"file,{kind},{column}", rows)
        data = open_folder(root)
        assert data.names == (("a", "b") if kind == "label" else ("red", "big"))
        assert data.source.heldout.tolist() == [i % 3 == 0 for i in range(12)]
    listed(
        root, f"file,label,{column}", [f"{i}.png,a,{'maybe' if i == 4 else 1}" for i in range(12)]
    )
    with pytest.raises(UserError, match=f"column '{column}' of image 5 .* 'maybe'"):
        _ = open_folder(root).names


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_the_count_of_rows_is_no_attribute(root, name):
    listed(root, f"{name},file,red", [f"{i},{i}.png,{i % 2}" for i in range(12)])
    assert open_folder(root).names == ("red",)


def test_names_nearly_alike_are_told(root, caplog):
    listed(root, "file,label", [f"{i}.png,{['cat', 'Cat', '01', '1'][i % 4]}" for i in range(12)])
    assert len(open_folder(root).names) == 4
    assert "nearly alike" in caplog.text
    (told,) = nearly_alike(["cat", "Cat", "01", "1", "dog", "10", "0", "00", "big_dog", "big dog"])
    for pair in ("cat and Cat", "01 and 1", "0 and 00", "big_dog and big dog"):
        assert pair in told
    assert nearly_alike(["1", "10", "100", "cat", "cats"]) == []


def test_held_out_images_without_folders_of_classes_are_told(root):
    names = [*(f"train/{c}/{i}.png" for c in "ab" for i in range(4)), "val/0.png", "val/1.png"]
    with pytest.raises(UserError, match=r"lies in no folders of classes .val/0\.png.*data\.root="):
        classes_by_name(names, where="set", settings=NameSettings())
