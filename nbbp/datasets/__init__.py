"""Data sets: handwritten digits that ship with the package, and loaders for users' files."""

from nbbp.datasets.digits import load_digits
from nbbp.datasets.images import load_images
from nbbp.datasets.mnist import load_mnist

__all__ = ["load_digits", "load_images", "load_mnist"]
