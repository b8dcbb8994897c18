"""What is kept on disk comes back as it was, or not at all."""

import torch

from ccdiff.metrics.cache import keep, kept


def test_what_is_kept_comes_back_and_a_changed_byte_is_seen(tmp_path, caplog):
    path = tmp_path / "kept.pt"
    keep({"weights": torch.arange(1000), "n": 3}, path)
    state = kept(path)
    assert torch.equal(state["weights"], torch.arange(1000))
    content = path.read_bytes()
    place = content.index(torch.arange(500, 510).numpy().tobytes())
    path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
    assert kept(path) is None
    assert "is damaged" in caplog.text
    for end in (1, 40, 100, 2000):
        path.write_bytes(content[:-end])
        assert kept(path) is None


def test_files_of_earlier_versions_are_read(tmp_path):
    torch.save({"n": 3}, tmp_path / "kept.pt")
    assert kept(tmp_path / "kept.pt") == {"n": 3}
