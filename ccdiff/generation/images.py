"""Images that were drawn, with what they were asked for: to look at, to count with, to keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
from PIL import Image
from torch import Tensor

from ccdiff.errors import UserError
from ccdiff.generation.film import Frames, film
from ccdiff.pictures import grid, picture, png, save_png
from ccdiff.system.atomic import write_whole

__all__ = ["Images", "save_arrays"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Images(Sequence[Image.Image]):
    """Images in rows, one row for each label; a notebook shows them as a grid.

    ``images[3]`` is a PIL image, ``images[2:5]`` are images again, ``np.asarray(images)`` is uint8
    [N, H, W, C]. Points of the plane are plotted, and ``np.asarray`` of them is float32 [N, 2].

    Arguments:
        tensor: uint8 [N, C, H, W], row by row; or points, float32 [N, 2, 1, 1].
        y: What each was asked for: class indices [N], or attributes [N, K].
        labels: The same in words, [N].
        seeds: Of the noise of each, [N]; given back as ``seed=`` they draw the same images.
        columns: Images in a row.
        frames: What was seen on the way, of all images; empty where no frames were asked for.
    """

    tensor: Tensor
    y: Tensor
    labels: Sequence[str]
    seeds: Sequence[int]
    columns: int
    frames: Frames

    def __len__(self) -> int:
        return len(self.tensor)

    @overload
    def __getitem__(self, which: int) -> Image.Image: ...
    @overload
    def __getitem__(self, which: slice) -> "Images": ...
    def __getitem__(self, which: int | slice) -> "Image.Image | Images":
        if not isinstance(which, slice):
            image = self.tensor[range(len(self))[which]]
            return grid(image[None], columns=1) if self.are_points else picture(image)
        chosen = list(range(len(self)))[which]
        return Images(
            tensor=self.tensor[chosen],
            y=self.y[chosen],
            labels=[self.labels[i] for i in chosen],
            seeds=[self.seeds[i] for i in chosen],
            columns=min(self.columns, max(1, len(chosen))),
            frames=self.frames.of(chosen),
        )

    @property
    def are_points(self) -> bool:
        """Whether these are points of the plane, and no images."""
        return self.tensor.is_floating_point()

    @property
    def array(self) -> np.ndarray:
        """uint8 [N, H, W, C]; of points float32 [N, 2]."""
        return _array(self.tensor)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype)  # type: ignore[call-overload]

    def grid(self) -> Image.Image:
        """All of them as one picture, a row for each label with its name on the left."""
        return grid(self.tensor, columns=self.columns, titles=self._titles())

    def film(self, what: Literal["x_t", "x0_hat"] = "x_t") -> list[Image.Image]:
        """The way from noise to images, as pictures like that of :meth:`grid`.

        Arguments:
            what: The noisy images, or those that are foreseen from them.

        Raises:
            UserError: Where the images were drawn without ``frames=``.
        """
        if what not in ("x_t", "x0_hat"):
            raise UserError(f"a film shows x_t or x0_hat, got {what!r}")
        self._check_film()
        shown = self.frames.x_t if what == "x_t" else self.frames.x0_hat
        return [grid(frame, columns=self.columns, titles=self._titles()) for frame in shown]

    def _check_film(self) -> None:
        if not len(self.frames.x_t):
            raise UserError("these images have no film: draw them with frames=40, say")

    def save(self, path: str | Path) -> Path:
        """Keeps them in one file, by its ending: ``.png`` the grid, ``.gif`` the film, ``.npz``.

        The film has ``x_t`` and ``x0_hat`` side by side, with their log-SNR.

        Raises:
            UserError: For any other ending, and for a film without frames.
        """
        path = Path(path).expanduser()
        if path.suffix == ".png":
            save_png(self.grid(), path)
        elif path.suffix == ".gif":
            self._check_film()
            film(self.frames, columns=self.columns, titles=self._titles()).save(path)
        elif path.suffix == ".npz":
            save_arrays(self.tensor, self.y.numpy(), path)
        else:
            raise UserError(f"{path}: images are kept as .png (grid), .gif (film) or .npz")
        return path

    def _titles(self) -> list[str]:
        """One for each row, or none where a row holds several labels."""
        rows = [self.labels[i : i + self.columns] for i in range(0, len(self), self.columns)]
        return [row[0] for row in rows] if all(len(set(row)) == 1 for row in rows) else []

    def __repr__(self) -> str:
        names = list(dict.fromkeys(self.labels))
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        size = " x ".join(map(str, self.tensor.shape[1:]))
        what = "points of the plane" if self.are_points else f"images, {size}"
        return f"<{len(self)} {what}: {shown}>"

    def _repr_png_(self) -> bytes | None:
        return png(self.grid()) if len(self) else None


def save_arrays(images: Tensor, labels: np.ndarray, path: Path) -> None:
    """Writes samples to one ``.npz``, whole or not at all.

    Arguments:
        images: uint8 [N, C, H, W], or points float32 [N, 2, 1, 1].
        labels: [N] or [N, K].
        path: Where to. It has them as ``images``, uint8 [N, H, W, C], or ``points``, float32
            [N, 2], and ``labels``, and again as ``arr_0`` and ``arr_1``, which is what evaluators
            read (Dhariwal & Nichol, 2021, arXiv:2105.05233).
    """
    found, name = _array(images), "points" if images.is_floating_point() else "images"
    arrays = {name: found, "labels": labels, "arr_0": found, "arr_1": labels}
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def _array(images: Tensor) -> np.ndarray:
    """As those have it who keep channels last; of points the two coordinates."""
    if images.is_floating_point():
        return images.flatten(1).numpy()
    return images.permute(0, 2, 3, 1).contiguous().numpy()
