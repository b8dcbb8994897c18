"""Real numbers as labels: read from the tables that classes and attributes are read from."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ccdiff.data import Folder, describe
from ccdiff.data.balance import weights_for
from ccdiff.errors import UserError

N = 20
ANGLES = [f"{18.5 * i:.1f}" for i in range(N)]


def png(i: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((4, 4), 10 * i, np.uint8)).save(content, "PNG")
    return content.getvalue()


def write(root: Path, header: str, rows: list[str]) -> Path:
    root.mkdir(exist_ok=True)
    for i in range(N):
        (root / f"{i}.png").write_bytes(png(i))
    (root / "table.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def folder(root: Path, **settings) -> Folder:
    common = {"image_size": 4, "channels": 1, "flip": False, "cache": str(root.parent / "cache")}
    return Folder(root=str(root), **{**common, "numbers": ["angle"], **settings})


@pytest.fixture
def root(tmp_path) -> Path:
    rows = [f"{i}.png,{angle},{i % 3},{i / 7}" for i, angle in enumerate(ANGLES)]
    rows[4] = "4.png,,1,0.5"
    return write(tmp_path / "set", "file,angle,label,size", rows)


def by_image(data: Folder) -> dict[int, list[float]]:
    """The labels of each image, which shows its number."""
    return {
        int(image[0, 0, 0]) // 10: label.tolist()
        for split in data.load()
        for image, label in zip(split.images, split.labels, strict=True)
    }


def test_each_image_has_the_numbers_of_its_row(root):
    data = folder(root, numbers=["size", "angle"])
    assert data.names == ("size", "angle")
    found = by_image(data)
    assert len(found) == N
    for i, (size, angle) in found.items():
        assert size == pytest.approx(0.5 if i == 4 else i / 7)
        assert (angle != angle) if i == 4 else angle == pytest.approx(float(ANGLES[i]))
    train, heldout = data.load()
    assert train.labels.dtype == torch.float32
    assert len(heldout) >= 1
    lines = describe(train, heldout, data.names)
    assert "2 numbers" in lines[0]
    assert lines[2].startswith("  angle: from")
    assert lines[2].endswith("1 training images have none")


def test_the_same_numbers_from_parquet_and_from_shards(root):
    expected = by_image(folder(root))
    angles = [None if i == 4 else float(angle) for i, angle in enumerate(ANGLES)]
    rows = root.parent / "rows"
    rows.mkdir()
    table = {"image": [{"bytes": png(i)} for i in range(N)], "angle": angles}
    pq.write_table(pa.table(table), rows / "train.parquet")
    shard = root.parent / "shards.tar"
    with tarfile.open(shard, "w") as tar:
        for i, angle in enumerate(angles):
            sidecar = json.dumps({"angle": angle}).encode()
            for name, content in ((f"{i:03d}.png", png(i)), (f"{i:03d}.json", sidecar)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    for other in (rows, shard):
        found = by_image(folder(other))
        assert found.keys() == expected.keys()
        np.testing.assert_array_equal([*found.values()], [found[i] for i in found])
        for i, label in found.items():
            np.testing.assert_array_equal(label, expected[i])


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("inf", "column 'angle' of image 3 .* is 'inf', which is no finite number"),
        ("1e39", "is '1e39', which is no finite number"),
        ("wide", "is 'wide', which is no finite number"),
        ("1,5", "row 4 .* as many fields"),
        ("12°", "no finite number"),
    ],
)
def test_a_cell_that_is_no_number_is_refused_with_its_row(tmp_path, cell, reason):
    rows = [f"{i}.png,{angle}" for i, angle in enumerate(ANGLES)]
    rows[2] = f"2.png,{cell}"
    with pytest.raises(UserError, match=reason):
        _ = folder(write(tmp_path / "set", "file,angle", rows)).names


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"numbers": ["angel"]}, "no column 'angel'; did you mean angle"),
        ({"numbers": ["angle", "angle"]}, "name each column once"),
        ({"numbers": []}, "name each column once"),
        ({"attributes": ["size"]}, r"data\.numbers or data\.attributes, not both"),
        ({"attribute": "size"}, r"data\.numbers or data\.attribute, not both"),
        ({"class_column": "label"}, r"data\.numbers or data\.class_column, not both"),
        ({"classes": "folders"}, r"data\.numbers or data\.classes, not both"),
    ],
)
def test_settings_that_say_two_things_are_refused(root, settings, reason):
    with pytest.raises(UserError, match=reason):
        _ = folder(root, **settings).names


def test_where_no_table_names_numbers_none_are_made_up(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "set" / name / f"{i}.png").write_bytes(png(i))
    with pytest.raises(UserError, match=r"holds no table, so that data\.numbers.*names nothing"):
        _ = folder(tmp_path / "set").names


def test_numbers_have_no_rare_classes_to_balance():
    with pytest.raises(UserError, match=r"data\.balance=class.*real numbers"):
        weights_for(torch.randn(9, 2), "class")
    assert weights_for(torch.randn(9, 2), "none") is None
