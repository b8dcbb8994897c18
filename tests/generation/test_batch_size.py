"""Batches that memory holds: estimated ahead, halved where it runs out."""

import logging
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from ccdiff.diffusion.guidance import NoGuidance
from ccdiff.diffusion.levels import Level
from ccdiff.diffusion.samplers import DDPM
from ccdiff.diffusion.thresholding import Clip
from ccdiff.errors import UserError
from ccdiff.generation import batch_size
from ccdiff.generation.batch_size import Portions, largest_batch_size
from ccdiff.generation.pipeline import Pipeline

CPU = torch.device("cpu")
MIB = 2**20
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


@dataclass(frozen=True, kw_only=True)
class Cramped(NoGuidance):
    """Runs out of memory with more than so many images; notes how many it was given."""

    most: int
    given: list[int] = field(default_factory=list)

    def __call__(self, denoiser, y, drop=None):
        denoise = super().__call__(denoiser, y, drop)
        self.given.append(len(y))

        def cramped(x_t: Tensor, level: Level) -> Tensor:
            if len(x_t) > self.most:
                raise torch.OutOfMemoryError(f"{FULL}\nIf you care to know more.")
            return denoise(x_t, level)

        return cramped


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(
        sampler=DDPM(steps=3),
        guidance=NoGuidance(),
        threshold=Clip(),
        image_shape=(1, 8, 8),
        batch_size=8,
    )


def draw(pipeline: Pipeline, denoiser) -> tuple[Tensor, Tensor]:
    y = torch.arange(19) % 3
    return pipeline(denoiser.eval(), y, None, seeds=range(19), num_frames=2)


def test_a_batch_that_does_not_fit_is_halved_for_good(pipeline, make_denoiser, caplog):
    denoiser = make_denoiser()
    images, frames = draw(pipeline, denoiser)
    cramped = Cramped(most=3)
    with caplog.at_level(logging.WARNING):
        fewer, fewer_frames = draw(replace(pipeline, guidance=cramped), denoiser)
    assert cramped.given == [8, 4, *[2] * 8, 2, 1]
    assert [r.getMessage().partition(";")[0] for r in caplog.records] == [
        "out of memory with 8 images at a time, going on with 4",
        "out of memory with 4 images at a time, going on with 2",
    ]
    assert FULL in caplog.text
    assert "care to know" not in caplog.text
    # A different batch size may round differently in the last bit of a convolution.
    assert torch.equal(fewer_frames.log_snr, frames.log_snr)
    pairs = ((fewer, images), *zip(fewer_frames[:2], frames[:2], strict=True))
    for ours, whole in pairs:
        assert (ours.int() - whole.int()).abs().max() <= 1


def test_no_room_for_a_single_image_is_told(pipeline, make_denoiser):
    with pytest.raises(UserError, match="no memory for a single image"):
        draw(replace(pipeline, guidance=Cramped(most=0), portions=Portions()), make_denoiser())


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def fail(part: slice) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Portions()(4, fail)


def test_a_lack_of_memory_of_the_machine_is_known_too():
    """A petabyte, which no machine gives."""
    sizes = []

    def take(part: slice) -> int:
        sizes.append(part.stop - part.start)
        torch.empty(2**50 if sizes[-1] > 1 else 1, dtype=torch.uint8)
        return sizes[-1]

    assert Portions()(4, take) == [1] * 4
    assert sizes == [4, 2, 1, 1, 1, 1]


def work(n: int) -> None:
    """Two layers of a mebibyte for each image."""
    nn.Sequential(nn.ReLU(), nn.Flatten())(torch.zeros(n, 2, MIB // 8))


@pytest.mark.parametrize(
    ("free", "processes", "size"),
    [(2**50, 1, 256), (400 * MIB, 1, 64), (400 * MIB, 2, 32), (9 * MIB, 1, 2), (MIB, 4, 1)],
)
def test_a_batch_takes_at_most_half_of_what_is_free(free, processes, size, monkeypatch):
    """With two mebibytes for an image."""
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: free)
    assert largest_batch_size(work, CPU, processes=processes) == size


def test_what_a_pipeline_needs_is_found_without_running_its_sampler(pipeline, make_denoiser):
    denoiser = make_denoiser().eval()
    counted = Cramped(most=9)
    sampled = replace(pipeline, guidance=counted, sampler=DDPM(steps=100_000))
    assert sampled.largest_batch_size(denoiser, torch.tensor([2]), None) == 256
    assert counted.given == [1]


def test_larger_images_come_in_smaller_batches(pipeline, make_denoiser, monkeypatch):
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: 40 * MIB)
    denoiser = make_denoiser().eval()
    y = torch.tensor([0])
    small, large = (
        replace(pipeline, image_shape=(1, side, side)).largest_batch_size(denoiser, y, None)
        for side in (16, 64)
    )
    assert small > 4 * large
