"""Random numbers from counters: the i-th number of a stream is a function of the stream's key and of i only.

They are the same in compiled code and in NumPy, in any order and at any number of threads, and there is no state to
save. The function is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
"""

import functools

import numpy as np

from nbbp.kernels import vector_math as vm
from nbbp.kernels.arguments import any_bits, below, up_to
from nbbp.kernels.jit import device, kernel
from nbbp.kernels.scalars import constant, polynomial

_GAMMA, _FIRST, _SECOND = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_ONE, _27, _30, _31, _32, _LOW = (np.uint64(c) for c in (1, 27, 30, 31, 32, 2**32 - 1))
_UNIT = constant(2.0**-32)

# Streams of a model's seed.
SHUFFLING = 1  # orders rows
IN_LAYERS = 2  # the streams that layers draw from
IN_UPDATES = 3  # gradient noise
CHUNKS = 4  # orders the chunks of a stream of data
BATCHES = 5  # orders mini-batches of rows of similar lengths


def bits(key, index):
    """64 random bits: the number at `index` of the stream `key`; uint64 scalars or arrays."""
    z = key + (index + _ONE) * _GAMMA
    z = (z ^ (z >> _30)) * _FIRST
    z = (z ^ (z >> _27)) * _SECOND
    return z ^ (z >> _31)


random_bits = device(bits, inline=True)


def threshold_of(share: float) -> int:
    """The number that this share of all 64-bit numbers is below, in [0, 1]."""
    return min(int(share * 2.0**64), 2**64 - 1)


def stream(seed: int, *path: int) -> np.uint64:
    """The key of a stream, from a seed and the numbers that identify its use."""
    key = np.array([seed % 2**64], np.uint64)
    for step in path:
        key = bits(key, np.array([step], np.uint64))
    return key[0]


_cosine = polynomial(  # of 2 pi v, |v| <= 1/2, as a function of v^2
    (
        *(0.999999988944576474, -19.739204466576142, 64.9391159283465366, -85.4501134275061263),
        *(60.1674297919607677, -25.9668846126773847, 6.52770596315192693),
    ),
    (
        *(1.0, -19.7392088021787171, 64.9393940226682586, -85.4568172066912686, 60.2446413717817336),
        *(-26.4262567812118904, 7.9035363400771734, -1.71439041380985169, 0.282004079583163128),
        *(-0.036374900363402311, 0.00375859056131035416, -0.000290060050191289281),
    ),
)


def normal(key, index, dtype) -> np.ndarray:
    """Standard normal numbers at `index` of the stream `key`, both uint64 arrays.

    Box and Muller, "A note on the generation of random normal deviates", 1958; the second of their two is not used.
    """
    numbers, unit = bits(key, index), dtype.type(2.0**-32)
    radius = np.sqrt(-2 * np.log(((numbers >> _32).astype(dtype) + dtype.type(0.5)) * unit))
    turn = (numbers & _LOW).astype(dtype) * unit - dtype.type(0.5)
    return radius * np.cos(2 * np.pi * turn).astype(dtype)


@functools.partial(device, inline=True)
def random_normal(key, index, like):
    """`normal` in the dtype of `like`."""
    number, half, unit = random_bits(key, index), vm.HALF(like), _UNIT(like)
    u = (type(like)(number >> _32) + half) * unit
    turn = type(like)(number & _LOW) * unit - half
    return np.sqrt(-vm.TWO(like) * vm.log(u)) * _cosine(turn * turn)


def shuffle_reference(orders, keys, count):
    rows = orders.shape[1]
    for order, key in zip(orders[: count[0]], keys, strict=False):
        tops = np.arange(rows - 1, 0, -1, dtype=np.uint64)
        chosen = ((bits(key, tops) >> _32) * (tops + _ONE)) >> _32
        shuffled = list(range(rows))
        for top, other in zip(tops.tolist(), chosen.tolist(), strict=True):
            shuffled[top], shuffled[other] = shuffled[other], shuffled[top]
        order[:] = shuffled


@kernel(
    shuffle_reference,
    "(e,n) (e) (1)",
    cycles=4.0,
    values={"orders": below("n"), "keys": any_bits, "count": up_to("e")},
)
def shuffle(orders, keys, count):
    """Make each of the first count[0] rows a permutation of 0 ... n - 1, n < 2^32, drawn from the stream of its key.

    Durstenfeld, "Algorithm 235: random permutation", 1964. 32 random bits choose among n: the probabilities of two
    rows at a position differ by a factor of at most 1 + n / 2^32.
    """
    for e in range(count[0]):
        order, key = orders[e], keys[e]
        for i in range(order.shape[0]):
            order[i] = i
        for i in range(order.shape[0] - 1, 0, -1):
            top = np.uint64(i)
            other = np.int64(((random_bits(key, top) >> _32) * (top + _ONE)) >> _32)
            order[i], order[other] = order[other], order[i]
