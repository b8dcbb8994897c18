"""Samples from a trained run: ``python sample.py run=latest labels=[3,7] num_per_label=8``."""

from ccdiff.sample.__main__ import main

if __name__ == "__main__":
    main()
