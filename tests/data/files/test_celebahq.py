"""CelebA-HQ in every layout in which people have it gives the same images and names."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

import ccdiff
from ccdiff.config import schema
from ccdiff.config.build import build_data
from ccdiff.data import Batches, CelebAHQ, Split
from ccdiff.data.files.delimited import read_annotations
from ccdiff.data.files.trees import FolderTree, TreeImages
from ccdiff.errors import UserError

NUM = 24
NAMES_LINE = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips "
    "Big_Nose Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin "
    "Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open "
    "Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline "
    "Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat "
    "Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
)
ATTRIBUTES = NAMES_LINE.split()
MALE = ATTRIBUTES.index("Male")
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (NUM, 3, 8, 8), dtype=np.uint8)
BITS = RANDOM.integers(0, 2, (NUM, 40), dtype=np.uint8)
# Files are sound whatever they are called; exact pixels ask for a format without loss.
FILES = []
for _pixels in PIXELS:
    _file = io.BytesIO()
    Image.fromarray(_pixels.transpose(1, 2, 0)).save(_file, "PNG")
    FILES.append(_file.getvalue())
HELD_OUT = [9, 19]  # two of 24, spread evenly


def annotations(end: str = "\n", *, count: object = NUM) -> str:
    """As in the real file: names parted by one space, values by one after two."""
    rows = [
        f"{i}.jpg  " + " ".join(str(2 * int(bit) - 1) for bit in bits)
        for i, bits in enumerate(BITS)
    ]
    return end.join([str(count), NAMES_LINE, *rows]) + end


def celebamask(root: Path, text: str | None = None) -> None:
    (root / "CelebA-HQ-img").mkdir(parents=True)
    for i, file in enumerate(FILES):
        (root / "CelebA-HQ-img" / f"{i}.jpg").write_bytes(file)
    text = annotations() if text is None else text
    (root / "CelebAMask-HQ-attribute-anno.txt").write_bytes(text.encode())
    # What else lies in the archive.
    (root / "CelebAMask-HQ-mask-anno" / "0").mkdir(parents=True)
    (root / "CelebAMask-HQ-mask-anno" / "0" / "00000_hair.png").write_bytes(FILES[0])
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("idx orig_idx orig_file\n")
    (root / "README.txt").write_text("CelebAMask-HQ")


def parquet(
    root: Path, *, sexes: tuple[str, str] = ("female", "male"), named: bool = True
) -> None:
    root.mkdir(parents=True)
    numbers = [i for i in range(NUM) if i not in HELD_OUT]
    parts = {
        "train-00000-of-00002": numbers[:10],
        "train-00001-of-00002": numbers[10:],
        "validation-00000-of-00001": HELD_OUT,
    }
    features = {"label": {"names": list(sexes), "_type": "ClassLabel"}}
    for name, part in parts.items():
        table = pa.table(
            {
                "image": [{"bytes": FILES[i], "path": f"../{i}.png"} for i in part],
                "label": [sexes.index("male" if BITS[i, MALE] else "female") for i in part],
            }
        )
        if named:
            about = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": about})
        pq.write_table(table, root / f"{name}.parquet", row_group_size=4)


def class_folders(root: Path, *, split: bool = True) -> None:
    for i, file in enumerate(FILES):
        part = ("val" if i in HELD_OUT else "train") if split else "."
        folder = root / part / ("male" if BITS[i, MALE] else "female")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:06}.jpg").write_bytes(file)


def flat(root: Path) -> None:
    root.mkdir(parents=True)
    for i, file in enumerate(FILES):
        (root / f"{i:05}.jpg").write_bytes(file)


LAYOUTS = {
    "celebamask": celebamask,
    "parquet": parquet,
    "class_folders": class_folders,
    "flat": flat,
}


def open_celebahq(root: Path, **options) -> CelebAHQ:
    settings = {"image_size": 8, "channels": 3, "flip": True, "cache": str(root.parent / "cache")}
    return CelebAHQ(root=str(root), **{**settings, **options})


def by_pixels(*splits: Split) -> list[tuple[bytes, list[int]]]:
    """Images and labels in an order that no layout has a say in."""
    return sorted(
        (image.numpy().tobytes(), labels.tolist())
        for split in splits
        for image, labels in zip(split.images, split.labels, strict=True)
    )


def parts(data: CelebAHQ) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the images that are trained on and held out."""
    held = data.source.heldout
    return np.flatnonzero(~held), np.flatnonzero(held)


def test_celebamask_gives_all_attributes_in_numeric_order(tmp_path):
    celebamask(tmp_path / "set")
    data = open_celebahq(tmp_path / "set")
    assert data.names == tuple(ATTRIBUTES)
    train, heldout = data.load()
    numbers, held = parts(data)
    assert torch.equal(train.images, torch.from_numpy(PIXELS[numbers]))
    assert torch.equal(train.labels, torch.from_numpy(BITS[numbers]))
    assert torch.equal(heldout.images, torch.from_numpy(PIXELS[held]))
    assert torch.equal(heldout.labels, torch.from_numpy(BITS[held]))
    assert train.labels.dtype == torch.uint8
    for part in (train, heldout):
        images, labels = Batches(part, batch_size=5, seed=0, placement="disk").batch(0)
        where = [by_pixels(part).index(pair) for pair in by_pixels(Split(images, labels))]
        assert len(where) == 5


def test_every_layout_gives_the_same_images_and_names(tmp_path):
    found = {}
    for name, make in LAYOUTS.items():
        make(tmp_path / name)
        data = open_celebahq(
            tmp_path / name, **({} if name == "flat" else {"attributes": ["Male"]})
        )
        found[name] = by_pixels(*data.load())
        assert data.names == (("face",) if name == "flat" else ("Male",))
    males = sorted((PIXELS[i].tobytes(), [int(BITS[i, MALE])]) for i in range(NUM))
    assert found["celebamask"] == found["parquet"] == found["class_folders"] == males
    assert found["flat"] == [(pixels, [1]) for pixels, _ in males]


def test_every_layout_but_the_flat_one_gives_the_same_two_classes(tmp_path):
    for name in ("celebamask", "parquet", "class_folders"):
        LAYOUTS[name](tmp_path / name)
        data = open_celebahq(tmp_path / name, attribute="Male")
        assert data.names == ("female", "male")
        train, heldout = data.load()
        assert train.labels.dtype == torch.int64
        expected = sorted((PIXELS[i].tobytes(), int(BITS[i, MALE])) for i in range(NUM))
        assert by_pixels(train, heldout) == expected


@pytest.mark.parametrize("name", ["parquet", "class_folders"])
def test_a_split_of_the_layout_is_kept(tmp_path, name):
    LAYOUTS[name](tmp_path / "set")
    train, heldout = open_celebahq(tmp_path / "set").load()
    assert len(train) == NUM - 2
    assert {image.numpy().tobytes() for image in heldout.images} == {
        PIXELS[i].tobytes() for i in HELD_OUT
    }


def test_class_folders_without_a_split_get_one(tmp_path):
    class_folders(tmp_path / "set", split=False)
    train, heldout = open_celebahq(tmp_path / "set", heldout=0.25).load()
    assert len(train) + len(heldout) == NUM
    for split in (train, heldout):
        assert split.labels.flatten().unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        annotations("\r\n"),
        annotations("\r"),
        "\ufeff" + annotations(),
        annotations().rstrip("\n"),
        annotations() + "\n\n",
        annotations().replace("\n", " \n"),
        annotations().replace(".jpg  ", ".jpg "),
        annotations().replace(" ", "\t"),
        annotations(count=f" {NUM} "),
        "\r\n".join(annotations().split("\n")[:9])
        + "\n"
        + "\n".join(annotations().split("\n")[9:]),
    ],
    ids=[
        "windows",
        "old mac",
        "byte order mark",
        "no end of line at the end",
        "empty lines at the end",
        "blanks at the ends",
        "single blanks",
        "tabs",
        "blanks around the count",
        "mixed line ends",
    ],
)
def test_odd_annotation_files_say_the_same(tmp_path, text):
    path = tmp_path / "annotations.txt"
    path.write_bytes(text.encode())
    files, names, bits = read_annotations(FolderTree(tmp_path).text(path.name), str(path))
    assert files == [f"{i}.jpg" for i in range(NUM)]
    assert names == tuple(ATTRIBUTES)
    assert np.array_equal(bits, BITS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with the number of images"),
        (annotations().partition("\n")[2], "does not begin with the number of images"),
        (annotations(count=NUM + 1), "announces 25 images but names 24: it is incomplete"),
        (annotations()[:-200], r"line 2\d of .* has \d+ values for 40 attributes"),
        (annotations().replace("7.jpg  ", "7.jpg  1 "), "line 10 of .* has 41 values for 40"),
        (annotations().replace("7.jpg  -1", "7.jpg  0").replace("7.jpg  1", "7.jpg  0"), "'0'"),
        (annotations().replace("8.jpg", "7.jpg"), "line 11 of .* names 7.jpg a second time"),
        (annotations().encode("utf-16").decode("latin-1"), "does not begin with|is no text"),
    ],
    ids=["empty", "no count", "cut at a line", "cut in a line", "more", "zero", "twice", "utf-16"],
)
def test_broken_annotation_files_are_refused_with_the_line(tmp_path, text, message):
    path = tmp_path / "annotations.txt"
    path.write_bytes(text.encode())
    with pytest.raises(UserError, match=message):
        read_annotations(FolderTree(tmp_path).text(path.name), str(path))


def test_rows_in_any_order_belong_to_their_images(tmp_path):
    lines = annotations().splitlines()
    celebamask(tmp_path / "set", "\n".join(lines[:2] + lines[:1:-1]))
    data = open_celebahq(tmp_path / "set")
    train, _ = data.load()
    numbers, _ = parts(data)
    assert torch.equal(train.labels, torch.from_numpy(BITS[numbers]))
    assert torch.equal(train.images, torch.from_numpy(PIXELS[numbers]))


def test_a_missing_image_is_named(tmp_path):
    celebamask(tmp_path / "set")
    (tmp_path / "set" / "CelebA-HQ-img" / "3.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 24 files cannot be used:\n  3\.jpg: no such file"):
        open_celebahq(tmp_path / "set").load()


def test_large_images_are_brought_to_size(tmp_path):
    celebamask(tmp_path / "set")
    slope = np.linspace(0, 255, 1024).round().astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(slope[:, None], slope[None], np.uint8(80)), axis=-1)
    Image.fromarray(picture).save(tmp_path / "set" / "CelebA-HQ-img" / "0.jpg", quality=95)
    train, heldout = open_celebahq(tmp_path / "set", image_size=16).load()
    centres = torch.arange(16).add(0.5) * 255 / 16
    (face,) = [
        image.float()
        for split in (train, heldout)
        for image in split.images
        if image[2].float().std() < 20
    ]
    assert train.images.shape[1:] == (3, 16, 16)
    assert (face[0] - centres[:, None]).abs().max() < 6
    assert (face[1] - centres[None]).abs().max() < 6


def test_attributes_are_selected_in_the_order_asked_for(tmp_path):
    celebamask(tmp_path / "set")
    data = open_celebahq(tmp_path / "set", attributes=["Young", "Smiling"])
    assert data.names == ("Young", "Smiling")
    train, _ = data.load()
    columns = [ATTRIBUTES.index(name) for name in ("Young", "Smiling")]
    assert torch.equal(train.labels, torch.from_numpy(BITS[parts(data)[0]][:, columns]))


def test_one_attribute_makes_two_classes(tmp_path):
    celebamask(tmp_path / "set")
    data = open_celebahq(tmp_path / "set", attribute="Smiling")
    assert data.names == ("not_Smiling", "Smiling")
    train, _ = data.load()
    smiling = BITS[parts(data)[0], ATTRIBUTES.index("Smiling")]
    assert train.labels.tolist() == smiling.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attribute": "male"}, r"no attribute 'male'; did you mean Male"),
        ({"attributes": ["Smilling"]}, r"no attribute 'Smilling'; did you mean Smiling"),
        ({"attributes": ["Young", "Young"]}, "must name each attribute once"),
        ({"attributes": []}, "must name each attribute once"),
        ({"attributes": ["Young"], "attribute": "Male"}, "not both"),
        ({"image_size": 0}, r"data\.image_size must be a number of pixels of at least 1"),
        ({"channels": 4}, r"data\.channels must be 1"),
        ({"heldout": 1.0}, r"data\.heldout must lie between 0 and 1"),
        ({"max_bad_fraction": -1}, r"data\.max_bad_fraction must be in \[0, 1\]"),
        ({"background": "nosuch"}, r"data\.background"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path, options, message):
    celebamask(tmp_path / "set")
    with pytest.raises(UserError, match=message):
        _ = open_celebahq(tmp_path / "set", **options).names


def test_an_attribute_that_the_layout_lacks_is_told(tmp_path):
    class_folders(tmp_path / "set")
    with pytest.raises(UserError, match="celebahq has no attribute 'Smiling'; it has Male"):
        _ = open_celebahq(tmp_path / "set", attributes=["Smiling"]).names


def test_names_are_known_before_any_image_is_opened(tmp_path):
    for name, make in LAYOUTS.items():
        make(tmp_path / name)
        for path in (tmp_path / name).rglob("*.jpg"):
            path.write_bytes(b"")
        assert open_celebahq(tmp_path / name).names
    assert not (tmp_path / "cache").exists()


def test_classes_are_read_by_name_where_the_file_gives_names(tmp_path):
    parquet(tmp_path / "usual")
    parquet(tmp_path / "swapped", sexes=("male", "female"))
    parquet(tmp_path / "nameless", named=False)
    usual, *others = (
        by_pixels(*open_celebahq(tmp_path / name).load())
        for name in ("usual", "swapped", "nameless")
    )
    assert all(other == usual for other in others)


def test_parquet_with_other_classes_is_not_taken_for_faces(tmp_path):
    (tmp_path / "set").mkdir()
    table = pa.table({"image": [{"bytes": FILES[0], "path": None}] * 3, "label": [0, 1, 2]})
    pq.write_table(table, tmp_path / "set" / "train.parquet")
    with pytest.raises(
        UserError, match="labels other than female and male: 2; are they CelebA-HQ"
    ):
        _ = open_celebahq(tmp_path / "set").names
    pq.write_table(table.drop_columns(["label"]), tmp_path / "set" / "train.parquet")
    with pytest.raises(UserError, match="have no column called label"):
        _ = open_celebahq(tmp_path / "set").names
    pq.write_table(table.slice(0, 0), tmp_path / "set" / "train.parquet")
    with pytest.raises(UserError, match="have no rows"):
        _ = open_celebahq(tmp_path / "set").names
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "set" / "train.parquet")
    with pytest.raises(UserError, match="was not found"):
        _ = open_celebahq(tmp_path / "set").names
    (tmp_path / "set" / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as parquet"):
        _ = open_celebahq(tmp_path / "set").names


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    parquet(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'ccdiff\[parquet\]'"):
        _ = open_celebahq(tmp_path / "set").names


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("celebamask", "CelebA-HQ-img"),
        ("celebamask", "CelebAMask-HQ-attribute-anno.txt"),
        ("parquet", "train-00000-of-00002.parquet"),
    ],
)
def test_links_out_of_the_folder_are_not_followed(tmp_path, layout, name):
    LAYOUTS[layout](tmp_path / "set")
    (tmp_path / "set" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "set" / name).symlink_to("../elsewhere")
    with pytest.raises(UserError, match=f"{name} is a link that leads out of .*elsewhere"):
        _ = open_celebahq(tmp_path / "set").names


def test_the_root_itself_may_be_a_link(tmp_path):
    celebamask(tmp_path / "set")
    (tmp_path / "link").symlink_to("set")
    train, heldout = open_celebahq(tmp_path / "link").load()
    assert len(train) + len(heldout) == NUM


def test_a_row_without_bytes_leads_to_no_file(tmp_path):
    parquet(tmp_path / "set")
    path = tmp_path / "set" / "validation-00000-of-00001.parquet"
    images = [{"bytes": None, "path": "/dev/zero"}, {"bytes": b"", "path": None}]
    rows = pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    about = pq.read_schema(path).metadata
    table = pa.table({"image": rows, "label": [0, 1]})
    pq.write_table(table.replace_schema_metadata(about), path)
    message = r"(?s)2 of 24 .*001\.parquet\[0\]: no bytes.*001\.parquet\[1\]: empty file"
    with pytest.raises(UserError, match=message):
        open_celebahq(tmp_path / "set").load()


ARRANGEMENTS = {
    "the folder itself": ("celebamask", ""),
    "one level down": ("celebamask", "CelebAMask-HQ"),
    "two levels down": ("celebamask", "archive/CelebAMask-HQ"),
    "a parquet snapshot": ("parquet", "celeba-hq-256x256/data"),
    "class folders beside other sets": ("class_folders", "celeba_hq"),
    "a flat folder in an archive": ("flat", "archive/celeba_hq_256"),
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_the_set_is_found_below_the_root(tmp_path, arrangement):
    layout, where = ARRANGEMENTS[arrangement]
    root = tmp_path / "data"
    LAYOUTS[layout](root / where)
    if where:
        (root / "MNIST" / "raw").mkdir(parents=True)
        (root / "emoji").mkdir()
        (root / "emoji" / "smile.png").write_bytes(FILES[0])
    train, heldout = open_celebahq(root).load()
    assert len(train) + len(heldout) == NUM


def test_the_first_layout_counts(tmp_path):
    parquet(tmp_path / "data" / "a_celeba_parquet")
    flat(tmp_path / "data" / "celeba_flat")
    class_folders(tmp_path / "data" / "celeba_folders")
    celebamask(tmp_path / "data" / "z")
    expected = [("z", 40), ("a_celeba_parquet", 1), ("celeba_folders", 1), ("celeba_flat", 1)]
    for folder, num_labels in expected:
        source = open_celebahq(tmp_path / "data").source
        images = source.images
        where = images.tree.root if isinstance(images, TreeImages) else images.root
        assert where.is_relative_to(tmp_path / "data" / folder)
        assert len(source.label_names) == num_labels
        shutil.rmtree(tmp_path / "data" / folder)


def test_folders_of_other_images_are_not_taken_for_faces(tmp_path):
    flat(tmp_path / "data" / "holiday")
    class_folders(tmp_path / "data" / "skeletons")
    message = r"(?s)not found in .*CelebA-HQ-img.*Parquet.*train.*kaggle.*data\.root=<"
    for root in (tmp_path / "data", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=message):
            _ = open_celebahq(root).names


def test_images_without_their_annotations_are_not_trained_on_blindly(tmp_path):
    celebamask(tmp_path / "data" / "CelebAMask-HQ")
    (tmp_path / "data" / "CelebAMask-HQ" / "CelebAMask-HQ-attribute-anno.txt").unlink()
    for root in (tmp_path / "data", tmp_path / "data" / "CelebAMask-HQ"):
        with pytest.raises(UserError, match=r"attribute-anno\.txt is not beside it"):
            _ = open_celebahq(root).names
    alone = open_celebahq(tmp_path / "data" / "CelebAMask-HQ" / "CelebA-HQ-img")
    assert alone.names == ("face",)


def composed(name: str, *overrides: str) -> DictConfig:
    conf = Path(ccdiff.__file__).parent.parent / "conf"
    schema.register()
    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose(name, ["data=celebahq", *overrides])


def test_the_config_states_the_names_of_the_file():
    assert composed("prepare").data.label_names == ATTRIBUTES


@pytest.mark.parametrize("command", ["train", "prepare", "inspect"])
def test_the_set_brings_its_conditioning_along_and_a_choice_wins(command):
    assert composed(command).conditioning._target_.endswith("MultiHot")
    chosen = composed(command, "conditioning=onehot", "data.attribute=Male")
    assert chosen.conditioning._target_.endswith("OneHot")


def test_the_config_builds_the_set(tmp_path):
    celebamask(tmp_path / "set")
    overrides = [f"data.root={tmp_path / 'set'}", f"data.cache={tmp_path / 'c'}"]
    cfg = composed("train", *overrides, "data.image_size=8", "data.attributes=[Smiling,Young]")
    data = build_data(cfg)
    assert cfg.conditioning.label_names == ["Smiling", "Young"]
    train, _ = data.load()
    assert (data.flip, data.image_shape, train.labels.shape[1]) == (True, (3, 8, 8), 2)
