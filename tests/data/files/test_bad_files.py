"""Every kind of file that turns up in image folders, each with its clear outcome."""

import io
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from gzip import compress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccdiff.data import Folder
from ccdiff.data.files.decode import BadImage, PixelSettings, decode, read_file
from ccdiff.errors import UserError

SETTINGS = PixelSettings(image_size=(16, 16), channels=3, background=(255, 255, 255))


def picture(size: tuple[int, int] = (24, 24), mode: str = "RGB", seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG file of 1-bit gray that claims a size."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND", b"")


JPEG = encode(picture((64, 64)), "JPEG")
PNG = encode(picture(), "PNG")


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../escape.png", PNG)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("../../escape.png")
        member.size = len(PNG)
        archive.addfile(member, io.BytesIO(PNG))
    return file.getvalue()


def flipped(data: bytes, where: int) -> bytes:
    return data[:where] + bytes([data[where] ^ 0xFF]) + data[where + 1 :]


BAD_CONTENT: dict[str, tuple[bytes, str]] = {
    "text": (b"these are not the pixels you are looking for", "not an image"),
    "error page of a server": (b"<!DOCTYPE html><html>404 Not Found</html>", "not an image"),
    "vector graphics": (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "not an image"),
    "random bytes": (np.random.default_rng(0).bytes(4096), "not an image"),
    "zeros of a lost block": (bytes(4096), "not an image"),
    "zip archive": (zipped(), "not an image"),
    "tar archive": (tarred(), "not an image"),
    "compressed image": (compress(PNG), "not an image"),
    "pickle": (pickle.dumps({"a": 1}), "not an image"),
    "PDF": (encode(picture(), "PDF"), "not an image"),
    "PostScript": (encode(picture(), "EPS"), "not an image"),
    "icon": (encode(picture((32, 32)), "ICO"), "not an image"),
    "video": (b"\0\0\0\x18ftypmp42" + bytes(100), "not an image"),
    "JPEG cut in half": (JPEG[: len(JPEG) // 2], "truncated"),
    "JPEG without pixels": (JPEG[:20], "not an image"),
    "JPEG without its last byte of pixels": (JPEG[:-100], "truncated"),
    "PNG cut in half": (PNG[: len(PNG) // 2], "truncated"),
    "PNG signature alone": (PNG[:8], "not an image"),
    "PNG with a flipped byte": (flipped(PNG, len(PNG) // 2), "damaged"),
    "PNG without pixels": (png(8, 8), "damaged"),
    "GIF cut in half": (encode(picture(), "GIF")[:900], "truncated"),
    "BMP cut in half": (encode(picture(), "BMP")[:500], "truncated"),
    "WebP cut in half": (encode(picture(), "WEBP")[:100], "damaged|not an image"),
    "TIFF cut in half": (encode(picture(), "TIFF")[:500], "damaged|not an image"),
    "PPM cut in half": (encode(picture(), "PPM")[:500], "truncated"),
    "bomb": (png(30_000, 30_000, png_chunk(b"IDAT", b"")), "decompression bomb"),
    "smaller bomb": (png(10_000, 10_000, png_chunk(b"IDAT", b"")), "decompression bomb"),
    "bomb in a text": (
        png(8, 8, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20)))),
        "damaged|not an image",
    ),
    "numbers of 32 bits": (encode(Image.new("I", (8, 8), 1 << 20), "TIFF"), "32 bits"),
    "negative numbers": (encode(Image.new("I", (8, 8), -1), "TIFF"), "32 bits"),
    "floating point": (encode(Image.new("F", (8, 8), 0.5), "TIFF"), "32 bits"),
}


def empty(folder: Path) -> None:
    (folder / "x.png").touch()


def link_out(folder: Path) -> None:
    (folder.parent / "secret.png").write_bytes(PNG)
    (folder / "x.png").symlink_to("../secret.png")


def link_to_a_device(folder: Path) -> None:
    (folder / "x.png").symlink_to("/dev/zero")


def link_to_nothing(folder: Path) -> None:
    (folder / "x.png").symlink_to("nowhere.png")


def link_to_itself(folder: Path) -> None:
    (folder / "x.png").symlink_to("x.png")


def link_to_a_folder_outside(folder: Path) -> None:
    (folder.parent / "others").mkdir()
    picture().save(folder.parent / "others" / "y.png")
    (folder / "x").symlink_to("../others")


def link_to_the_folder_itself(folder: Path) -> None:
    (folder / "x").symlink_to(".")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "x.png")


def file_of_a_gigabyte(folder: Path) -> None:
    with (folder / "x.png").open("wb") as file:
        file.truncate(1 << 30)


def name_that_is_no_text(folder: Path) -> None:
    Path(os.fsdecode(bytes(folder) + b"/x\xff.png")).write_text("no image")


BAD_FILES: dict[Callable[[Path], None], str] = {
    empty: r"x\.png: empty file",
    link_out: r"x\.png: leads out of the folder",
    link_to_a_device: r"x\.png: leads out of the folder",
    link_to_nothing: r"x\.png: no such file",
    link_to_itself: r"x\.png: cannot be read",
    link_to_a_folder_outside: r"x: leads out of the folder",
    link_to_the_folder_itself: r"x: not a regular file",
    pipe: r"x\.png: not a regular file",
    file_of_a_gigabyte: r"x\.png: file of 1024 MiB, too large",
    name_that_is_no_text: r"x\\udcff\.png: not an image",
}

BAD_ROWS: dict[str, str] = {
    "gone.png": "no such file",
    "../secret.png": "leads out of the folder",
    "inner/../../secret.png": "leads out of the folder",
    "/dev/null": "leads out of the folder",
    "inner": "not a regular file",
    "nul\0.png": "cannot be read: embedded null",
    "n" * 300 + ".png": "cannot be read: File name too long",
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twenty sound images in a folder, which lies in another one."""
    folder = tmp_path / "set"
    folder.mkdir()
    for i in range(20):
        picture(seed=i).save(folder / f"{i}.png")
    return folder


def open_folder(folder: Path, **options) -> Folder:
    settings = {"image_size": 16, "channels": 3, "flip": False, "cache": str(folder.parent / "c")}
    return Folder(root=str(folder), **{**settings, **options})


@pytest.mark.parametrize("kind", BAD_CONTENT)
def test_bad_content_is_refused_with_the_reason(kind):
    content, reason = BAD_CONTENT[kind]
    with warnings.catch_warnings():
        # Preparation silences what decoders warn of.
        warnings.simplefilter("ignore")
        with pytest.raises(BadImage, match=reason):
            decode(content, SETTINGS)


@pytest.mark.parametrize("spoil", BAD_FILES, ids=lambda spoil: spoil.__name__)
def test_a_bad_file_is_named_and_counted(folder, spoil):
    spoil(folder)
    with pytest.raises(UserError, match=f"1 of 21 files cannot be used:\n  {BAD_FILES[spoil]}"):
        open_folder(folder).load()


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_table_leads_to_no_other_file(folder, name):
    (folder / "inner").mkdir()
    (folder.parent / "secret.png").write_bytes(PNG)
    rows = [f"{i}.png,1" for i in range(20)] + [f"{name},0"]
    (folder / "table.csv").write_text("file,round\n" + "\n".join(rows))
    with pytest.raises(UserError, match=rf"1 of 21 files cannot be used:\n  .*: {BAD_ROWS[name]}"):
        open_folder(folder).load()


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    # The superuser may read everything, so the system's answer is played.
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BadImage, match="cannot be read: Permission denied"):
        read_file(folder, "0.png")


def test_few_bad_files_are_left_out_and_many_stop(folder, caplog):
    sound, _ = open_folder(folder).load()
    (folder / "3.png").write_bytes(JPEG[:-100])
    (folder / "5.png").write_bytes(b"")
    message = r"(?s)2 of 20 files.*3\.png: damaged.*5\.png: empty.*max_bad_fraction=0\.05"
    with pytest.raises(UserError, match=message):
        open_folder(folder, max_bad_fraction=0.05).load()
    train, heldout = open_folder(folder, max_bad_fraction=0.1).load()
    assert "2 of 20 files cannot be used" in caplog.text
    source = open_folder(folder).source
    before = [i for i, held in enumerate(source.heldout) if not held]
    bad = {source.images.names.index(name) for name in ("3.png", "5.png")}
    kept = [row for row, i in enumerate(before) if i not in bad]
    assert len(kept) == len(before) - 2
    assert torch.equal(train.images, sound.images[kept])
    assert len(train) + len(heldout) == 18


def test_bad_files_keep_their_labels_away(folder):
    rows = [f"{i}.png,{i % 3 % 2}" for i in range(20)]
    (folder / "table.csv").write_text("file,round\n" + "\n".join(rows))
    (folder / "4.png").write_bytes(b"")
    train, heldout = open_folder(folder, max_bad_fraction=0.1, heldout=0.25).load()
    held = open_folder(folder, heldout=0.25).source.heldout
    numbers = [i for i in [*np.flatnonzero(~held), *np.flatnonzero(held)] if i != 4]
    bits = [i % 3 % 2 for i in numbers]
    assert torch.cat([train.labels, heldout.labels]).flatten().tolist() == bits


def test_what_is_left_behind_by_systems_is_no_image(folder):
    (folder / "._1.png").write_bytes(b"resource fork")
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "1.png").write_bytes(b"resource fork")
    (folder / "Thumbs.db").write_bytes(b"")
    (folder / "README.txt").write_text("pictures")
    train, heldout = open_folder(folder).load()
    assert len(train) + len(heldout) == 20


def test_a_link_inside_the_folder_is_followed(folder):
    (folder / "20.png").symlink_to("1.png")
    train, heldout = open_folder(folder).load()
    assert len(train) + len(heldout) == 21


def test_only_bad_files_leave_nothing_to_train_on(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(b"")
    with pytest.raises(UserError, match="no usable training images"):
        open_folder(folder, max_bad_fraction=1).load()
