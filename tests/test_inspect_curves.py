"""Pictures of schedules and embeddings, and the figures that they are drawn from."""

import json

import pytest
import torch
from cli import call, succeed
from faults import composed, train
from PIL import Image

from ccdiff.diffusion.schedules import Flow, Linear
from ccdiff.inspect.curves import betas, similarity
from ccdiff.nn.embedding import NoiseEmbedding


def test_increments_of_a_schedule_of_betas_are_its_own():
    # The clip of the log-SNR takes hold of the first one alone.
    torch.testing.assert_close(betas(Linear())[1:], Linear().betas()[1:], rtol=1e-9, atol=0)


def test_increments_multiply_to_the_level_at_the_end(schedule):
    ends = schedule.at(torch.tensor([0.0, 1.0], dtype=torch.float64)).log_snr
    kept = torch.sigmoid(ends[1]) / torch.sigmoid(ends[0])
    torch.testing.assert_close((1 - betas(schedule)).prod(), kept, rtol=1e-6, atol=0)


def test_a_level_is_like_itself_and_less_like_others():
    levels = torch.linspace(-5, 5, 11)
    found = similarity(NoiseEmbedding(32, out_dim=16).sinusoids, levels)
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(found.diagonal(), torch.ones(11, dtype=torch.float64))
    assert (found - torch.eye(11)).max() < 0.999


def test_schedules_are_drawn_and_told_in_numbers(tmp_path):
    asked = ("schedule=cosine,flow", "times=logit_normal", "out=out", "format=svg")
    succeed("ccdiff.inspect", *asked, cwd=tmp_path)
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {"schedules.svg", "noised.png", "schedules.json"}
    assert "<svg" in (out / "schedules.svg").read_text()
    found = json.loads((out / "schedules.json").read_text())
    assert list(found) == ["cosine", "flow"]
    t = torch.tensor(found["flow"]["t"], dtype=torch.float64)
    assert found["flow"]["log_snr"] == Flow().at(t).log_snr.tolist()
    with Image.open(out / "noised.png") as picture:
        assert picture.width > 11 * 56


def test_an_embedding_is_drawn_beside_a_trained_one(tmp_path):
    train(composed(), tmp_path / "run")
    succeed("ccdiff.inspect", "part=embedding", "out=alone", cwd=tmp_path)
    succeed("ccdiff.inspect", "part=embedding", "run=run", "out=both", cwd=tmp_path)
    with (
        Image.open(tmp_path / "alone" / "embedding.png") as alone,
        Image.open(tmp_path / "both" / "embedding.png") as both,
    ):
        assert both.width > 1.5 * alone.width


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["schedule=cosin"], "did you mean cosine?"),
        (["schedule="], "names none"),
        (["schedule=flow", "times=often"], "there is no times 'often'"),
        (["part=weights"], "schedule, embedding"),
        (["schedule=flow", "format=jpg"], "png, svg, pdf"),
        (["part=embedding", "run=nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_pictured_is_told(arguments, told, tmp_path):
    done = call("ccdiff.inspect", *arguments, cwd=tmp_path)
    assert done.status == 1
    assert told in done.printed
    assert "Traceback" not in done.printed
    assert not (tmp_path / "inspection").exists()
