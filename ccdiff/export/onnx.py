"""The denoiser as an ONNX graph: ``(x_t, log_snr, label, hidden) -> x0_hat`` for any batch.

Written by torch's exporter of ``torch.export`` graphs, and read back by ONNX Runtime, whose result
must be torch's.
"""

import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ccdiff.diffusion.conditioning import Conditioning
from ccdiff.diffusion.denoiser import Denoiser
from ccdiff.diffusion.levels import Level
from ccdiff.errors import UserError

__all__ = ["GRAPH_FILE", "TOLERANCE", "check_installed", "graph_of"]

log = logging.getLogger(__name__)

GRAPH_FILE = "model.onnx"
TOLERANCE = 1e-4
"""Most that an image, in [-1, 1], may differ from torch's."""
_OPSET = 18


class _Graph(nn.Module):
    """The denoiser with tensors alone as arguments; the level's scales follow from its log-SNR."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x_t: Tensor, log_snr: Tensor, label: Tensor, hidden: Tensor) -> Tensor:
        schedule = self.denoiser.schedule
        alpha, sigma = schedule.scales(log_snr)
        level = Level(log_snr=log_snr, alpha=alpha, sigma=sigma, schedule=schedule)
        return self.denoiser(x_t, level, label, hidden)


def check_installed() -> None:
    """Raises a UserError where what it takes is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"this format needs the extra `onnx` ({error}): uv sync --extra onnx, or "
            f"pip install 'ccdiff[onnx]'"
        ) from error


def graph_of(denoiser: Denoiser, image_shape: tuple[int, int, int]) -> bytes:
    """The graph as a file, found to give what torch gives for a batch of another size.

    Arguments:
        denoiser: In evaluation mode, on the CPU.
        image_shape: ``(C, H, W)``.

    Raises:
        UserError: Where the network cannot be exported, or the graph gives something else.
    """
    for name in ("onnxscript", "onnx_ir"):  # They tell of every constant that is there twice.
        logging.getLogger(name).setLevel(logging.WARNING)
    graph = _Graph(denoiser).eval()
    names = ("x_t", "log_snr", "label", "hidden")
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings(), TemporaryDirectory() as scratch:
        warnings.simplefilter("ignore")  # Of the exporter about itself.
        program = torch.onnx.export(
            graph,
            _example(denoiser.conditioning, image_shape, 3),
            input_names=list(names),
            output_names=["x0_hat"],
            dynamic_shapes={name: {0: batch} for name in names},
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None, "it is, with dynamo=True"
        # One file, which is passed on more easily than two.
        program.save(Path(scratch) / GRAPH_FILE, external_data=False)
        written = (Path(scratch) / GRAPH_FILE).read_bytes()
    _compare(graph, written, _example(denoiser.conditioning, image_shape, 5))
    return written


def _example(
    conditioning: Conditioning, image_shape: tuple[int, int, int], n: int
) -> tuple[Tensor, ...]:
    """Arguments of the graph for ``n`` images, at noise levels from noisy to clean."""
    generator = torch.Generator().manual_seed(n)
    y = conditioning.example().repeat_interleave(n, dim=0)
    hidden = torch.arange(n) % 2 == 0 if conditioning.drop > 0 else torch.zeros(n).bool()
    x_t = torch.randn(n, *image_shape, generator=generator)
    return x_t, torch.linspace(-5, 5, n), y, hidden


def _compare(graph: _Graph, written: bytes, example: tuple[Tensor, ...]) -> None:
    import onnxruntime

    with torch.no_grad():
        ours = graph(*example).numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    taken = {i.name for i in session.get_inputs()}
    names = ("x_t", "log_snr", "label", "hidden")
    given: dict[str, Any] = {
        name: value.numpy() for name, value in zip(names, example, strict=True) if name in taken
    }
    try:
        (theirs,) = session.run(["x0_hat"], given)
    except Exception as error:  # It has classes of its own for each cause.
        raise UserError(f"the ONNX graph does not run on another batch: {error}") from error
    # Relative to what is not an image: an estimate at high noise may be far out of range.
    gap = float((np.abs(theirs - ours) / np.maximum(1, np.abs(ours))).max())
    if not gap <= TOLERANCE:
        raise UserError(
            f"the ONNX graph differs from torch by {gap:.2g}, more than {TOLERANCE:g}: this "
            f"network cannot be exported by this version of torch ({torch.__version__})"
        )
    log.info("the ONNX graph is torch's within %.1e", gap)
