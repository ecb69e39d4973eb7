"""The UCI handwritten digits."""

import pathlib

import numpy as np


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 real handwritten digits of 8 x 8 pixels.

    E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C50P49, licensed CC BY 4.0: its test set, in its order. Scaled here from 0..16 to 0..1.

    Returns
    -------
    X : ndarray (1797, 64), float32
        Pixels in [0, 1], row by row.
    y : ndarray (1797,), int64
        The digits, 0 to 9.
    """
    with np.load(pathlib.Path(__file__).with_name("digits.npz")) as file:
        return file["pixels"].astype(np.float32) / 16, file["labels"].astype(np.int64)
