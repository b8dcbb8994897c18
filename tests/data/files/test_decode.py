"""Sound files of every kind, and the pixels that they must become."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from ccdiff.data import Folder
from ccdiff.data.files.decode import PixelSettings, decode, parse_color
from ccdiff.data.files.resize import resize
from ccdiff.errors import UserError

SIZE = 8
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int = SIZE, height: int = SIZE, seed: int = 0) -> np.ndarray:
    """Random pixels, uint8 [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pixels(
    data: bytes, *, size: int = SIZE, channels: int = 3, background: tuple = WHITE
) -> np.ndarray:
    """Decoded, as [H, W, C]."""
    settings = PixelSettings(image_size=(size, size), channels=channels, background=background)
    image, _ = decode(data, settings)
    assert image.shape == settings.shape
    assert image.dtype == np.uint8
    assert image.nbytes == settings.row_bytes
    return image.transpose(1, 2, 0)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_pixels_of_the_right_size_are_untouched(kind, options):
    exact = noise()
    assert np.array_equal(pixels(encode(Image.fromarray(exact), kind, **options)), exact)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_what_its_decoder_says(progressive):
    data = encode(Image.fromarray(noise()), "JPEG", progressive=progressive, quality=95)
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data))))


def test_printers_colours_become_rgb():
    data = encode(Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(pixels(data).astype(int) - RED).max() < 30


def test_the_centred_square_is_kept():
    wide = np.concatenate([noise(3, seed=1), noise(), noise(4, seed=2)], axis=1)
    assert np.array_equal(pixels(encode(Image.fromarray(wide))), noise())
    tall = np.concatenate([noise(SIZE, 2, seed=1), noise(), noise(SIZE, 2, seed=2)], axis=0)
    assert np.array_equal(pixels(encode(Image.fromarray(tall))), noise())


def test_what_is_cropped_does_not_leak_in():
    # Resizing reads neighbours; those beyond the square must not count.
    middle = np.full((32, 32, 3), 100, np.uint8)
    border = np.full((32, 16, 3), 255, np.uint8)
    image = Image.fromarray(np.concatenate([border, middle, border], axis=1))
    assert (pixels(encode(image)) == 100).all()


def test_large_images_are_antialiased():
    # Stripes of one pixel are beyond what 8 pixels show: they become gray, not a moiré.
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(pixels(encode(Image.fromarray(stripes))).astype(float) - 127.5).max() < 3


def test_brightness_and_orientation_survive_resizing():
    slope = np.linspace(0, 255, 64).round().astype(np.uint8)
    image = np.stack(np.broadcast_arrays(slope[:, None], slope[None], np.uint8(80)), axis=-1)
    small = pixels(encode(Image.fromarray(image))).astype(float)
    centres = (np.arange(SIZE) + 0.5) * 255 / SIZE
    assert np.abs(small[..., 0] - centres[:, None]).max() < 6
    assert np.abs(small[..., 1] - centres[None]).max() < 6
    assert (small[..., 2] == 80).all()


@pytest.mark.parametrize(
    ("side", "enlarged"), [(SIZE - 1, True), (SIZE, False), (SIZE + 1, False)]
)
def test_small_images_are_enlarged_and_told(side, enlarged):
    settings = PixelSettings(image_size=(SIZE, SIZE), channels=3, background=WHITE)
    image, was_smaller = decode(encode(Image.new("RGB", (side + 4, side), RED)), settings)
    assert was_smaller is enlarged
    assert (image.transpose(1, 2, 0) == RED).all()


def test_transparency_shows_the_background():
    rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
    rgba[:4] = (*RED, 255)
    rgba[4:6] = (*RED, 0)  # invisible, whatever its colour
    rgba[6:] = (*RED, 128)
    seen = pixels(encode(Image.fromarray(rgba)), background=BLUE)
    assert (seen[:4] == RED).all()
    assert (seen[4:6] == BLUE).all()
    assert (seen[6:] == (128, 0, 127)).all()


def test_transparency_of_palettes_and_of_gray():
    palette = Image.new("P", (SIZE, SIZE), 1)
    palette.putpalette([*GREEN, *RED])
    assert (pixels(encode(palette, transparency=1), background=BLUE) == BLUE).all()
    assert (pixels(encode(palette, transparency=0), background=BLUE) == RED).all()
    gray = Image.new("LA", (SIZE, SIZE), (40, 0))
    assert (pixels(encode(gray), background=BLUE) == BLUE).all()
    keyed = Image.new("RGB", (SIZE, SIZE), RED)
    assert (pixels(encode(keyed, transparency=RED), background=BLUE) == BLUE).all()


def test_transparent_edges_take_no_colour_from_the_invisible():
    rgba = np.zeros((64, 64, 4), np.uint8)  # black, and invisible
    rgba[:, 32:] = (255, 255, 255, 255)
    assert (pixels(encode(Image.fromarray(rgba)), background=WHITE) == 255).all()


def test_gray_becomes_three_equal_channels_and_colour_becomes_luminance():
    gray = noise()[..., 0]
    assert np.array_equal(pixels(encode(Image.fromarray(gray))), np.stack([gray] * 3, axis=-1))
    assert np.array_equal(pixels(encode(Image.fromarray(gray)), channels=1)[..., 0], gray)
    # ITU-R 601-2: 0.299 R + 0.587 G + 0.114 B.
    for colour, luminance in ((RED, 76), (GREEN, 150), (BLUE, 29)):
        seen = pixels(encode(Image.new("RGB", (SIZE, SIZE), colour)), channels=1)
        assert (seen == luminance).all()


def test_black_and_white_is_black_and_white():
    bits = noise()[..., 0] > 128
    assert np.array_equal(pixels(encode(Image.fromarray(bits)), channels=1)[..., 0], bits * 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_to_8(kind):
    exact = np.arange(64, dtype=np.uint16).reshape(SIZE, SIZE) * 4
    data = encode(Image.fromarray(exact * 257), kind)
    assert np.array_equal(pixels(data, channels=1)[..., 0], exact)
    full = encode(Image.fromarray(np.full((SIZE, SIZE), 65535, np.uint16)), kind)
    assert (pixels(full) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(orientation):
    image = Image.fromarray(noise())
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(pixels(data), np.asarray(upright))


def test_orientation_six_is_a_quarter_turn_to_the_right():
    # The camera was held upright: what is stored as the left edge is the top.
    stored = np.zeros((SIZE, SIZE, 3), np.uint8)
    stored[:, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    seen = pixels(encode(Image.fromarray(stored), exif=exif))
    assert (seen[0] == 255).all()
    assert (seen[1:] == 0).all()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif"])
def test_nonsense_beside_the_pixels_does_not_cost_them(exif):
    data = encode(Image.new("RGB", (SIZE, SIZE), RED), "JPEG", exif=exif, quality=100)
    assert np.abs(pixels(data).astype(int) - RED).max() < 4


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (SIZE, SIZE), colour) for colour in (RED, GREEN)]
    for kind in ("GIF", "PNG", "WEBP"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert (pixels(data) == RED).all()


def test_bytes_after_the_end_are_of_no_concern():
    assert np.array_equal(pixels(encode(Image.fromarray(noise())) + b"trailing"), noise())


@pytest.mark.parametrize(
    ("colour", "rgb"),
    [("white", WHITE), ("#0000ff", BLUE), ([255, 0, 0], RED), ((0, 255, 0), GREEN)],
)
def test_backgrounds_are_names_or_numbers(colour, rgb):
    assert parse_color(colour) == rgb


@pytest.mark.parametrize(
    "colour", ["nosuchcolour", [1, 2], [0, 0, 256], ["a", "b", "c"], [0.5] * 3]
)
def test_backgrounds_that_are_no_colour_are_refused(colour):
    with pytest.raises(UserError, match=r"data\.background"):
        parse_color(colour)


# Rectangles, and JPEG decoded small


def slopes(width: int, height: int) -> Image.Image:
    """Red grows to the right and green downwards; waves lie on blue."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 128 + 60 * np.sin(x / 30)], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("shape", [(8, 16), (16, 8), (7, 5)])
@pytest.mark.parametrize("size", [(64, 64), (96, 40), (33, 81)])
def test_rectangles_are_cut_from_the_middle(shape, size):
    data = encode(slopes(*size))
    height, width = shape
    settings = PixelSettings(image_size=shape, channels=3, background=WHITE)
    image, _ = decode(data, settings)
    assert image.shape == (3, height, width)
    scale = max(height / size[1], width / size[0])
    for channel, n, side in ((image[0], width, size[0]), (image[1].T, height, size[1])):
        # A pixel covers 1 / scale pixels of the source, whose values span 255 over its side.
        expected = 127.5 + (np.arange(n) - (n - 1) / 2) / scale * 255 / (side - 1)
        assert np.abs(channel.mean(0) - expected).max() < 255 / side + 2


@pytest.mark.parametrize("size", [(256, 256), (250, 256), (300, 260), (64, 64), (40, 200)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_fast_decoding_is_near_to_exact(size, orientation):
    picture = slopes(*size)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(file, "JPEG", quality=95, exif=exif)
    exact, fast = (
        decode(
            file.getvalue(),
            PixelSettings(image_size=(64, 48), channels=3, background=WHITE, decode=how),
        )
        for how in ("exact", "fast")
    )
    assert exact[1] == fast[1]
    assert np.abs(exact[0].astype(int) - fast[0]).mean() < 1.5


def test_fast_decoding_decodes_less(monkeypatch):
    sizes = []
    load = JpegImageFile.load
    monkeypatch.setattr(
        JpegImageFile, "load", lambda self: (sizes.append(self.size), load(self))[1]
    )
    file = io.BytesIO()
    slopes(256, 256).save(file, "JPEG")
    for how in ("exact", "fast"):
        decode(
            file.getvalue(),
            PixelSettings(image_size=(64, 64), channels=3, background=WHITE, decode=how),
        )
    assert sizes[0] == (256, 256)
    assert sizes[-1] == (64, 64)


@pytest.mark.parametrize("size", [(64, 64), (17, 31), (1, 1), (300, 280), (5, 200)])
def test_torch_resizes_as_pillow_does(size):
    height, width = size
    noise = np.random.default_rng(0).integers(0, 256, (150, 110, 3), dtype=np.uint8)
    for picture in (Image.fromarray(noise), slopes(200, 130), Image.fromarray(noise[:1, :1])):
        ours, pillows = (
            np.asarray(resize(picture, height=height, width=width, fast=fast)).astype(int)
            for fast in (True, False)
        )
        assert ours.shape == (height, width, 3)
        assert np.abs(ours - pillows).max() <= 2
        assert np.abs(ours - pillows).mean() < 0.03


def test_another_way_to_decode_is_refused():
    with pytest.raises(UserError, match=r"data\.decode must be exact or fast, got 'quick'"):
        PixelSettings(image_size=(4, 4), channels=3, background=WHITE, decode="quick")


@pytest.mark.parametrize(
    ("largest", "bits"), [(200, 8), (1023, 10), (3000, 12), (9000, 14), (65535, 16)]
)
def test_gray_of_more_than_8_bits_is_scaled_by_what_the_set_uses(tmp_path, caplog, largest, bits):
    caplog.set_level("INFO")
    ramp = np.linspace(0, largest, 144).round().reshape(12, 12).astype(np.uint16)
    folder = tmp_path / "set"
    folder.mkdir()
    for i in range(8):
        darker = ramp if i == 7 else ramp // (i + 2)
        Image.fromarray(darker).save(folder / f"{i}.png")
    data = Folder(
        root=str(folder), image_size=12, channels=1, flip=False, cache=str(tmp_path / "c")
    )
    images = torch.cat([split.images for split in data.load()])
    white = (1 << bits) - 1
    brightest = max(images, key=lambda image: int(image.max()))[0].numpy()
    assert np.abs(brightest - ramp * 255.0 / white).max() <= 0.51
    assert f"read as {bits} bits" in caplog.text
