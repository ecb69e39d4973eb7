"""Numbers from counters: the published generator, permutations, and the order of rows."""

import numpy as np

import nbbp
from nbbp.kernels import random


def test_bits_are_those_of_splitmix64():
    """The first numbers of the generator with seed 1234567, as published with its reference code by Vigna."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    got = random.bits(np.array([1234567], np.uint64), np.arange(4, dtype=np.uint64))
    assert got.tolist() == expected


def test_streams_differ():
    keys = {int(random.stream(*path)) for path in ((0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (2**64 + 1, 1))}
    assert len(keys) == 7


def test_shuffles_are_even():
    """Each of 6 rows comes to each of 6 places equally often, and each of the 720 orders comes up."""
    orders = np.zeros((36_000, 6), np.int64)
    keys = random.bits(np.array([7], np.uint64), np.arange(len(orders), dtype=np.uint64))
    random.shuffle.serial(orders, keys, np.array([len(keys)]))
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    counts = np.stack([np.bincount(column, minlength=6) for column in orders.T])
    chi_squared = ((counts - 6000) ** 2 / 6000).sum()
    assert chi_squared < 52.6  # 25 degrees of freedom, one seed in a thousand is above
    assert len(np.unique(orders, axis=0)) == 720


def test_every_epoch_has_an_order_of_its_own_that_the_seed_decides(rng):
    X, y = rng.standard_normal((50, 3)), rng.standard_normal((50, 1))

    def losses(seed: int, backend: str = "numba") -> np.ndarray:
        model = nbbp.Sequential([nbbp.Dense(1)], optimizer=nbbp.SGD(1e-12), seed=seed, dtype="float64", backend=backend)
        return model.fit(X, y, epochs=3, batch_size=1, verbose=0).step_loss.reshape(3, 50)

    first = losses(0)
    assert len(np.unique(first.round(6), axis=0)) == 3
    np.testing.assert_allclose(np.sort(first, axis=1), np.sort(first[:1].repeat(3, axis=0), axis=1), rtol=1e-6)
    np.testing.assert_allclose(losses(0, "numpy"), first, rtol=1e-6)
    assert not np.allclose(losses(1), first)
