"""Randomness keyed by what it is for, so that nothing depends on what was drawn before."""

import hashlib

import torch


def seed_for(*parts: int | str) -> int:
    """Mixes ``parts`` into one seed in [0, 2^63): the same parts always give the same seed.

    ``seed_for(seed, "order", epoch)`` and ``seed_for(seed, "step", n)`` are unrelated streams.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on ``device``, seeded with ``seed_for(*parts)``."""
    return torch.Generator(device=device).manual_seed(seed_for(*parts))
