"""Every row of the table of layouts in docs/data.md, made small, becomes what is written there."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccdiff.data import Folder
from ccdiff.errors import UserError

PAGE = Path(__file__).parents[3] / "docs" / "data.md"
RANDOM = np.random.default_rng(0)

Build = Callable[[Path], None]


def put(path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def images(*names: str) -> Build:
    """A folder with these images; a star stands for 0 to 5."""

    def build(root: Path) -> None:
        for name in names:
            for i in range(6) if "*" in name else (0,):
                put(root / name.replace("*", str(i)))

    return build


def and_text(build: Build, **texts: str) -> Build:
    """As ``build``, and files of text, whose names have dots for double underscores."""

    def both(root: Path) -> None:
        build(root)
        for name, text in texts.items():
            path = root / name.replace("___", "/").replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return both


def rows(header: str, row: str) -> str:
    """A table with a row for each of six images: {i} is its number, {c} a class, {b} a bit."""
    lines = (row.format(i=i, c="ab"[i % 2], b=i % 2) for i in range(6))
    return "\n".join([header, *lines])


def coco(most: int) -> str:
    """Annotations of six images, with up to ``most`` categories in one."""
    pairs = [(i, i % 2) for i in range(6)] + [(0, 1)] * (most - 1)
    return json.dumps(
        {
            "images": [{"id": i, "file_name": f"{i}.png"} for i in range(6)],
            "annotations": [
                {"id": n, "image_id": i, "category_id": c} for n, (i, c) in enumerate(pairs)
            ],
            "categories": [{"id": k, "name": "ab"[k]} for k in range(2)],
        }
    )


def arrays(labels) -> Build:
    return lambda root: np.savez(
        root / "a.npz", images=RANDOM.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8), labels=labels
    )


def dataset_json(label) -> Build:
    entries = [[f"{i}.png", label(i)] for i in range(6)]
    return and_text(images("*.png"), dataset__json=json.dumps({"labels": entries}))


def parquet(with_bytes: bool) -> Build:
    def build(root: Path) -> None:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        cells = []
        for i in range(6):
            put(root.parent / "x.png")
            content = (root.parent / "x.png").read_bytes() if with_bytes else None
            cells.append({"image": {"bytes": content, "path": f"{i}.png"}, "label": i % 2})
        pq.write_table(pa.Table.from_pylist(cells), root / "train.parquet")

    return build


TABLE = rows("file,label", "{i}.png,{c}")
FLAT = images("*.png")
TWO = {"a", "b"}
# The beginning of the first cell of each row, and for each case of it the names, or the message.
CASES: dict[str, list[tuple[Build, set[str] | str]]] = {
    "`cat/1.png`, `dog/1.png`": [
        (images("a/*.png", "b/*.png"), TWO),
        (images(*(f"{p}/{c}/*.png" for p in ("train", "test") for c in "ab")), TWO),
        (images("wrap/in/a/*.png", "wrap/in/b/*.png", "__MACOSX/wrap/*.png"), TWO),
    ],
    "`cat_1.png`": [(images("a_*.png", "b_*.png"), r"classes=none(?s:.*)classes=prefix")],
    "`cat/siam/1.png`": [
        (images("a/x/*.png", "a/y/*.png", "b/x/*.png", "b/z/*.png"), r"folders(?s:.*)deepest")
    ],
    "`00000/`, `00001/`": [
        (images("00000/0*.png", "00001/1*.png"), r"classes=folders(?s:.*)classes=none"),
        (images("10/1*10.png", "20/1*20.png"), r"classes=folders(?s:.*)classes=none"),
    ],
    "`train/` and `test/` beside": [
        (images("train/a/*.png", "docs/*.png"), r"split_folders=false(?s:.*)split_folders=true"),
        (images("seg_train/a/*.png", "seg_test/a/*.png"), r"split_folders=false"),
    ],
    "`train/cat/1.png` and": [
        (images("train/a/*.png", "train/b/*.png", "val/*.png"), "in no folders of classes")
    ],
    "`images/` beside": [
        (images("images/*.png", "masks/*.png"), {"image"}),
        (and_text(images("train/*.png"), annotations___0__xml="<annotation/>"), {"train"}),
    ],
    "a table beside the images": [
        (and_text(FLAT, t__csv="\ufeff" + TABLE), TWO),
        (and_text(images("train/*.png"), train___t__tsv=TABLE.replace(",", "\t")), TWO),
        (and_text(images("images/*.png"), t__csv=rows("Image Index;a;b", "{i};1;{b}")), TWO),
        (and_text(FLAT, t__json=json.dumps({f"{i}.png": "ab"[i % 2] for i in range(6)})), TWO),
        (
            and_text(
                images("train/*.png", "val/*.png"),
                faces_train__csv=rows("file,label", "train/{i}.png,{c}"),
                faces_val__csv=rows("file,label", "val/{i}.png,{c}"),
            ),
            TWO,
        ),
    ],
    "annotations of COCO": [
        (and_text(images("train2017/*.png"), annotations___instances__json=coco(1)), TWO),
        (and_text(images("train2017/*.png"), annotations___instances__json=coco(2)), TWO),
        (
            and_text(FLAT, instances__json=coco(1), person_keypoints__json=coco(1)),
            r"several tables: pass data\.table",
        ),
    ],
    "a table whose column `id`": [(and_text(FLAT, t__csv=rows("id,label", "{i},{c}")), TWO)],
    "a table that names files by where": [
        (and_text(FLAT, t__csv=rows("file,label", "/mnt/{i}.png,{c}")), r"pass data\.images="),
    ],
    "several tables": [
        (and_text(FLAT, one__csv=TABLE, other__csv=TABLE), r"data\.table=<one of one"),
        (
            and_text(FLAT, train__csv=TABLE, test__csv="file\n", sample_submission__csv=TABLE),
            r"test\.csv has no rows",
        ),
        (and_text(FLAT, train__csv=TABLE, sample_submission__csv=TABLE), TWO),
    ],
    "lines of an image": [(and_text(FLAT, val__txt=rows("", "{i}.png {c}").strip()), TWO)],
    "a table without a header": [
        (and_text(FLAT, t__csv=rows("0.png,a", "{i}.png,{c}")), "no column of .* names the image"),
        (and_text(FLAT, t__csv=rows("size,label", "{i},{c}")), "no column of .* names the image"),
        (and_text(FLAT, t__csv=rows("file,label", "{i}.png,")), "image 1 .* has no 'label'"),
        (and_text(FLAT, t__csv=rows("file,label", "0.png,{c}")), "image 2 .* a second time"),
        (and_text(FLAT, t__csv=rows("file,label,label", "{i}.png,{c},{c}")), "'label' twice"),
        (lambda root: (FLAT(root), (root / "t.csv").write_text(TABLE, "utf-16")), "UTF-8"),
    ],
    "a table of pixels": [
        (and_text(images(), t__csv="label,pixel0,pixel1\n1,0,0\n"), "pixels in a table")
    ],
    "`dataset.json`": [
        (dataset_json(lambda i: i % 2), {"0", "1"}),
        (dataset_json(lambda i: [i % 2, 1 - i % 2]), {"0", "1"}),
        (dataset_json(lambda i: [i % 2, 1]), {"0", "1"}),
    ],
    "`.npz`, `.npy`": [
        (arrays(np.arange(6) % 2), {"0", "1"}),
        (arrays(np.array(list("ababab"))), TWO),
        (arrays(np.linspace(0, 1, 6)), r"data\.numbers"),
    ],
    "parquet with images": [(parquet(True), {"0", "1"}), (parquet(False), "embed")],
    "`Cat/` beside": [(images("Cat/*.png", "cat/1*.png"), {"Cat", "cat"})],
    "images that cannot be read": [
        (
            and_text(images("a/*.png", "b/*.png"), a___bad__png="not an image"),
            r"1 of 13 files cannot(?s:.*)max_bad_fraction",
        ),
        (and_text(FLAT, t__csv=rows("file,label", "{i}1.png,{c}")), "6 of 6 files cannot"),
    ],
}


def documented() -> list[str]:
    """The first cells of the rows of the table."""
    text = PAGE.read_text().split("| what lies there |")[1].split("\n\n")[0]
    return re.findall(r"^\| (.+?) \|", text, flags=re.MULTILINE)


# Tar shards and LMDB have tests of their own, with what they need to be written.
ELSEWHERE = ("tar shards",)


def test_every_documented_layout_has_a_case():
    known = (*CASES, *ELSEWHERE)
    found = documented()
    assert len(found) > 15
    assert [row for row in found if not row.startswith(known)] == []
    assert [case for case in known if not any(row.startswith(case) for row in found)] == []


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        pytest.param(*case, id=f"{name} {i}")
        for name, cases in CASES.items()
        for i, case in enumerate(cases)
    ],
)
def test_layouts_become_what_is_documented(tmp_path, build, expected):
    root = tmp_path / "set"
    root.mkdir()
    build(root)
    place = root / "a.npz" if (root / "a.npz").exists() else root
    data = Folder(
        root=str(place), image_size=4, channels=3, flip=False, cache=str(tmp_path / "cache")
    )
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            data.load()
    else:
        assert set(data.names) == expected
        assert sum(len(split) for split in data.load()) > 4
