"""A block of queries with all keys of its row and head: what `attend` and `attend_backward` consist of.

Arrays of keys by queries are (s, BLOCK), of which the first r columns are queries. Query c has the first `limits[c]`
keys, never fewer than the query before it.
"""

import numpy as np

from nbbp.kernels.jit import device
from nbbp.kernels.lanes import LANES, added, larger, load, multiplied, select, splat, store
from nbbp.kernels.pointers import at
from nbbp.kernels.random import random_bits
from nbbp.kernels.scalars import constant
from nbbp.kernels.tiles import FROM_ZERO, ROWS, VECTORS, columns, multiply
from nbbp.kernels.vector_math import ONE, ZERO, exp_of_negative

BLOCK = 3 * LANES
"""The number of queries whose scores are computed at a time."""

_UNIT = constant(2.0**-64)


@device
def find(places, mask):
    """The places that are not masked, and their number."""
    count = 0
    for p in range(mask.shape[0]):
        if mask[p]:
            places[count] = p
            count += 1
    return count


@device
def limit(limits, queries, keys, t, s, causal):
    """The number of keys of each query."""
    count = 0 if causal else s
    for i in range(t):
        while count < s and keys[count] <= queries[i]:
            count += 1
        limits[i] = count


@device
def pack(y, x, row, places, count, d, factor):
    """y (count, d) = factor times the rows of x at some places."""
    for i in range(count):
        source, target = at(x, places[i] * row), at(y, i * d)
        for c in range(d):
            target[c] = source[c] * factor


@device
def unpack(y, row, places, x, count, d, factor):
    """The rows of y at some places = factor times the rows of x (count, d)."""
    for i in range(count):
        source, target = at(x, i * d), at(y, places[i] * row)
        for c in range(d):
            target[c] = source[c] * factor


@device
def clear(x, row, count, d):
    """The first d columns of the rows of x = 0."""
    for i in range(count):
        target = at(x, i * row)
        for c in range(d):
            target[c] = ZERO(target[c])


@device
def in_vectors(r):
    """The least number of whole vectors with room for r queries, as a number of queries."""
    return (r + LANES - 1) // LANES * LANES


@device
def _whole(limits, r):
    """The number of keys, in whole tiles, that all of r queries have."""
    return limits[0] if limits[0] == limits[r - 1] else limits[0] // ROWS * ROWS


@device
def keys_by_queries(scores, limits, r, keys, queries, d):
    """scores[j, c] = key j . query c, at least for j < limits[c]; keys (s, d), queries (d, BLOCK)."""
    n, whole, c = limits[r - 1], _whole(limits, r), 0
    grain = max(columns(scores) // VECTORS, ROWS)
    if whole:
        multiply(whole, r, d, keys, d, 1, queries, BLOCK, scores, BLOCK, scores, FROM_ZERO)
    for j in range(whole, n, ROWS):
        while limits[c] <= j:
            c += 1
        begin = c // grain * grain
        multiply(
            min(ROWS, n - j), r - begin, d, at(keys, j * d), d, 1, at(queries, begin), BLOCK,
            at(scores, j * BLOCK + begin), BLOCK, scores, FROM_ZERO,
        )  # fmt: skip


@device
def sum_over_keys(y, weights, limits, r, x, d):
    """y[c] = weights[j, c] x[j] summed over j < limits[c]; y (r, d), x (s, d)."""
    for c in range(0, r, ROWS):
        rows = min(ROWS, r - c)
        n = limits[c + rows - 1]
        if n:
            multiply(rows, d, n, at(weights, c), 1, BLOCK, x, d, at(y, c * d), d, y, FROM_ZERO)
        else:
            clear(at(y, c * d), d, rows, d)


@device
def add_over_queries(y, weights, limits, r, x, d):
    """y[j] += weights[j, c] x[c] summed over the c < r with j < limits[c]; y (s, d), x (r, d)."""
    n, whole, c = limits[r - 1], _whole(limits, r), 0
    if whole:
        multiply(whole, d, r, weights, BLOCK, 1, x, d, y, d, y, d)
    for j in range(whole, n, ROWS):
        while limits[c] <= j:
            c += 1
        multiply(
            min(ROWS, n - j), d, r - c, at(weights, j * BLOCK + c), BLOCK, 1, at(x, c * d), d,
            at(y, j * d), d, at(y, j * d), d,
        )  # fmt: skip


@device
def _largest_of_columns(largest, x, n):
    """The largest number of each column of x (n, BLOCK)."""
    a, b, c = load(x, LANES), load(at(x, LANES), LANES), load(at(x, 2 * LANES), LANES)
    for j in range(1, n):
        row = at(x, j * BLOCK)
        of_a, of_b, of_c = load(row, LANES), load(at(row, LANES), LANES), load(at(row, 2 * LANES), LANES)
        a = select(larger(of_a, a), of_a, a)
        b = select(larger(of_b, b), of_b, b)
        c = select(larger(of_c, c), of_c, c)
    store(largest, a, LANES)
    store(at(largest, LANES), b, LANES)
    store(at(largest, 2 * LANES), c, LANES)


@device
def _sums_of_columns(sums, x, n):
    """The sum of each column of x (n, BLOCK)."""
    a, b, c = load(x, LANES), load(at(x, LANES), LANES), load(at(x, 2 * LANES), LANES)
    for j in range(1, n):
        row = at(x, j * BLOCK)
        a = added(a, load(row, LANES))
        b = added(b, load(at(row, LANES), LANES))
        c = added(c, load(at(row, 2 * LANES), LANES))
    store(sums, a, LANES)
    store(at(sums, LANES), b, LANES)
    store(at(sums, 2 * LANES), c, LANES)


@device
def _sums_of_products(sums, x, y, n):
    """The sum of each column of x y, both (n, BLOCK)."""
    a = b = c = splat(ZERO(x[0]))
    for j in range(n):
        row, other = at(x, j * BLOCK), at(y, j * BLOCK)
        a = added(a, multiplied(load(row, LANES), load(other, LANES)))
        b = added(b, multiplied(load(at(row, LANES), LANES), load(at(other, LANES), LANES)))
        c = added(c, multiplied(load(at(row, 2 * LANES), LANES), load(at(other, 2 * LANES), LANES)))
    store(sums, a, LANES)
    store(at(sums, LANES), b, LANES)
    store(at(sums, 2 * LANES), c, LANES)


@device
def _clear_without_keys(x, limits, r):
    """x[j, c] = 0 where query c does not have key j."""
    for j in range(_whole(limits, r), limits[r - 1]):
        row = at(x, j * BLOCK)
        for c in range(r):
            row[c] = row[c] if j < limits[c] else ZERO(row[c])


@device
def exponentials(scores, limits, r, largest, sums):
    """scores = exp(scores - largest) for each query, 0 where it has no key, and their sums."""
    n = limits[r - 1]
    # Where a query has no key stands the score of its first one: exp of a large negative number would be slow.
    for j in range(_whole(limits, r), n):
        row = at(scores, j * BLOCK)
        for c in range(r):
            row[c] = row[c] if j < limits[c] else scores[c]
    _largest_of_columns(largest, scores, n)
    for j in range(n):
        row = at(scores, j * BLOCK)
        for c in range(r):
            row[c] = exp_of_negative(row[c] - largest[c])
    _clear_without_keys(scores, limits, r)
    _sums_of_columns(sums, scores, n)


@device
def probabilities(scores, limits, r, largest, inverse):
    """scores = exp(scores - largest) inverse for each query, 0 where it has no key."""
    for j in range(limits[r - 1]):
        row = at(scores, j * BLOCK)
        for c in range(r):
            row[c] = exp_of_negative(row[c] - largest[c]) * inverse[c]
    _clear_without_keys(scores, limits, r)


@device
def softmax_slopes(slopes, p, limits, r, means):
    """slopes = p (slopes - the sum of p slopes over keys), 0 where a query has no key; `means` is scratch."""
    n = limits[r - 1]
    _clear_without_keys(slopes, limits, r)
    _sums_of_products(means, slopes, p, n)
    for j in range(n):
        row, weights = at(slopes, j * BLOCK), at(p, j * BLOCK)
        for c in range(r):
            row[c] = weights[c] * (row[c] - means[c])


@device
def drop(x, n, r, places, random_keys, threshold):
    """x[j, c] = 0 where the random number of this key and query is not below the threshold, else scaled up."""
    factor = ONE(x[0]) / (type(x[0])(threshold) * _UNIT(x[0]))
    for j in range(n):
        row, place = at(x, j * BLOCK), np.uint64(places[j])
        for c in range(r):
            kept = random_bits(np.uint64(random_keys[c]), place) < threshold
            row[c] = row[c] * factor if kept else ZERO(factor)
