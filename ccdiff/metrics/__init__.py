"""How good samples are: features of images, distances between sets of them, who judges them."""
