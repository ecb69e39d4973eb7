"""Random numbers from counters: the i-th number of a stream is a function of the stream's key and of i alone.

So they are the same in compiled code and in NumPy, in any order and at any number of threads, and there is no state to
save. The function is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
"""

import numpy as np

from nbbp.kernels.jit import device, kernel

_GAMMA, _FIRST, _SECOND = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_ONE, _27, _30, _31, _32 = (np.uint64(c) for c in (1, 27, 30, 31, 32))


def bits(key, index):
    """64 random bits: the number at `index` of the stream `key`; uint64 scalars or arrays."""
    z = key + (index + _ONE) * _GAMMA
    z = (z ^ (z >> _30)) * _FIRST
    z = (z ^ (z >> _27)) * _SECOND
    return z ^ (z >> _31)


_bits = device(bits, inline=True)


def stream(seed: int, *path: int) -> np.uint64:
    """Key of a stream: a seed, and the numbers that lead from there to this use of it."""
    key = np.array([seed % 2**64], np.uint64)
    for step in path:
        key = bits(key, np.array([step], np.uint64))
    return key[0]


def shuffle_reference(orders, keys):
    rows = orders.shape[1]
    for order, key in zip(orders, keys, strict=True):
        tops = np.arange(rows - 1, 0, -1, dtype=np.uint64)
        chosen = ((bits(key, tops) >> _32) * (tops + _ONE)) >> _32
        shuffled = list(range(rows))
        for top, other in zip(tops.tolist(), chosen.tolist(), strict=True):
            shuffled[top], shuffled[other] = shuffled[other], shuffled[top]
        order[:] = shuffled


@kernel(shuffle_reference, "(e,n) (e)", cycles=4.0)
def shuffle(orders, keys):
    """Each row a permutation of 0 ... n - 1, n < 2^32, drawn from the stream of its key.

    Durstenfeld, "Algorithm 235: random permutation", 1964. 32 random bits choose among n: no row is likelier in a place
    than another by more than n / 2^32.
    """
    for e in range(orders.shape[0]):
        order, key = orders[e], keys[e]
        for i in range(order.shape[0]):
            order[i] = i
        for i in range(order.shape[0] - 1, 0, -1):
            top = np.uint64(i)
            other = np.int64(((_bits(key, top) >> _32) * (top + _ONE)) >> _32)
            order[i], order[other] = order[other], order[i]
