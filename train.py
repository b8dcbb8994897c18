"""Trains a class-conditional diffusion model: ``python train.py --help`` lists the groups."""

from ccdiff.train.__main__ import main

if __name__ == "__main__":
    main()
