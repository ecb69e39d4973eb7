"""Scaled dot-product attention: softmax(q . k' / sqrt(d)) . v for each row and head (Vaswani et al., 2017).

Scores are made for a block of queries at a time, keys by queries: a maximum or a sum over keys then is a loop over
vectors of queries, in the order of the keys, and all products consist of register tiles on what stays in the cache.
Backward computes the probabilities again, from the largest score and the sum that each query has kept (Dao et al.,
"FlashAttention", 2022).

Only positions that are not masked are copied to where they are multiplied, so that no sum has a term for the others:
padding changes no bit. A query's keys are the first `limits[c]` of them: all, or those that do not come after it.
"""

from typing import Any

import numpy as np
from numba import get_thread_id, prange

from nbbp.kernels import threads
from nbbp.kernels.arguments import Lengths, any_bits, flags, scratch, scratch_of_integers
from nbbp.kernels.attention_blocks import (
    BLOCK,
    add_over_queries,
    clear,
    drop,
    exponentials,
    find,
    in_vectors,
    keys_by_queries,
    limit,
    pack,
    probabilities,
    softmax_slopes,
    sum_over_keys,
    unpack,
)
from nbbp.kernels.jit import kernel
from nbbp.kernels.pointers import at
from nbbp.kernels.random import bits, random_bits
from nbbp.kernels.transposes import transpose_rows
from nbbp.kernels.vector_math import ONE, ZERO


def memory_of_thread(s: int, d: int) -> int:
    """The floats that a thread needs for s keys of d features: see `attend` and `attend_backward`."""
    return 2 * s * BLOCK + 4 * s * d + 5 * BLOCK * d + 3 * BLOCK


def places_of_thread(t: int, s: int) -> int:
    """The integers that a thread needs for t queries and s keys: the places of both, limits and random keys."""
    return s + 3 * t


def split(x, first: int, heads: int, d: int) -> np.ndarray:
    """The heads (b, h, positions, d) in columns of x from `first` on."""
    return x[:, :, first : first + heads * d].reshape(*x.shape[:2], heads, d).transpose(0, 2, 1, 3)


def allowed_keys(query_mask, key_mask, causal) -> np.ndarray:
    """The keys (b, 1, t, s) that each query may attend to."""
    allowed = query_mask[:, None, :, None] & key_mask[:, None, None, :]
    return np.tril(allowed) if causal else allowed


def scores_of(q, k, allowed) -> tuple[np.ndarray, np.ndarray]:
    """The scores of queries and keys (b, h, positions, d), and the largest of each query, 0 if it may see no key."""
    scores = q @ k.swapaxes(2, 3) / np.sqrt(q.dtype.type(q.shape[-1]))
    largest = scores.max(axis=-1, where=allowed, initial=np.finfo(q.dtype).min)
    return scores, np.where(allowed.any(axis=-1), largest, 0)


def _kept(draw, clock, rows: int, heads: int, t: int, s: int) -> np.ndarray:
    """The factors (rows, heads, t, s) of dropout, 1 if the threshold is 0."""
    if not draw[1]:
        return np.ones((1, 1, 1, 1))
    key = bits(draw[:1], np.array([clock["before"][0] + clock["step"][0]], np.uint64))
    pairs = bits(key, draw[2:] * np.uint64(heads) + np.arange(rows * heads, dtype=np.uint64))
    queries = bits(pairs[:, None], np.arange(t, dtype=np.uint64))
    numbers = bits(queries[:, :, None], np.arange(s, dtype=np.uint64)).reshape(rows, heads, t, s)
    return np.where(numbers < draw[1], 1 / (draw[1] * 2.0**-64), 0)


def attend_reference(
    y, statistics, q, k, v, first, query_mask, key_mask, causal, draw, clock, memory, places
):  # fmt: skip
    b, t, h, d = y.shape
    q, k, v = (split(x, begin, h, d) for x, begin in zip((q, k, v), first, strict=True))
    allowed = allowed_keys(query_mask, key_mask, causal[0])
    scores, largest = scores_of(q, k, allowed)
    e = np.exp(scores - largest[..., None], where=allowed, out=np.zeros_like(scores))
    sums = e.sum(axis=-1)
    inverse = np.divide(1, sums, where=sums > 0, out=np.zeros_like(sums))
    statistics[:, :, 0], statistics[:, :, 1] = largest, inverse
    kept = _kept(draw, clock, b, h, t, k.shape[2])
    v = np.where(key_mask[:, None, :, None], v, 0)
    y[:] = ((e * kept).astype(e.dtype) @ v * inverse[..., None]).transpose(0, 2, 1, 3)


def attend_backward_reference(
    dq, dk, dv, dy, statistics, q, k, v, first, query_mask, key_mask, causal, draw, clock, memory, places
):  # fmt: skip
    b, t, h, d = dy.shape
    q, k, v = (split(x, begin, h, d) for x, begin in zip((q, k, v), first, strict=True))
    q, dy = (np.where(query_mask[:, None, :, None], x, 0) for x in (q, dy.transpose(0, 2, 1, 3)))
    k, v = (np.where(key_mask[:, None, :, None], x, 0) for x in (k, v))
    allowed = allowed_keys(query_mask, key_mask, causal[0])
    scores, _ = scores_of(q, k, allowed)
    largest, inverse = statistics[:, :, 0, :, None], statistics[:, :, 1, :, None]
    p = np.exp(scores - largest, where=allowed, out=np.zeros_like(scores)) * inverse
    kept = _kept(draw, clock, b, h, t, k.shape[2]).astype(p.dtype)
    slopes = dy @ v.swapaxes(2, 3) * kept
    slopes = p * (slopes - (p * slopes).sum(axis=-1, keepdims=True)) / np.sqrt(p.dtype.type(d))
    made = slopes @ k, slopes.swapaxes(2, 3) @ q, (p * kept).swapaxes(2, 3) @ dy
    for gradient, begin, values in zip((dq, dk, dv), first, made, strict=True):
        gradient[:, :, begin : begin + h * d] = values.transpose(0, 2, 1, 3).reshape(b, -1, h * d)


def _columns_of_parts(rng, shape, dtype, lengths: Lengths) -> np.ndarray:
    """The first columns of q, k and v, each a multiple of a part's width."""
    width = lengths["h"] * lengths["d"]
    return np.array([width * int(rng.integers(lengths[letter] // width)) for letter in "ABC"])


def _one_flag(rng, shape, dtype, lengths: Lengths) -> np.ndarray:
    return rng.random(shape) < 0.5


_SHAPES = "(b,t,A) (b,s,B) (b,s,C) (3) (b,t) (b,s) (1) (3) (1) (Z,M) (Z,P)"
"""q, k, v, first, query_mask, key_mask, causal, draw, clock, memory, places."""
_ARGUMENTS: dict[str, Any] = {
    "values": {
        "first": _columns_of_parts, "query_mask": flags, "key_mask": flags, "causal": _one_flag, "draw": any_bits,
        "memory": scratch, "places": scratch_of_integers,
    },
    "lengths": {
        **{letter: lambda: range(1, 2**20) for letter in "bhd"},
        **{part: lambda h, d: (h * d, 2 * h * d, 3 * h * d) for part in "ABC"},
        "Z": threads.most, "M": memory_of_thread, "P": places_of_thread,
    },
}  # fmt: skip


@kernel(attend_reference, f"(b,t,h,d) (b,h,2,t) {_SHAPES}", cycles=1 / 8, **_ARGUMENTS)
def attend(y, statistics, q, k, v, first, query_mask, key_mask, causal, draw, clock, memory, places):
    """y = softmax(q . k' / sqrt(d)) . v of each head, 0 for masked queries and those without keys.

    statistics: of each query the largest score, and 1 / the sum of exp(score - largest). first: the columns at which
    q, k and v begin. causal: whether no query has keys after it. draw: the key of the stream, the threshold of 64-bit
    numbers or 0 without dropout, the index of the first row in the mini-batch. memory, places: scratch of each thread.
    """
    (b, t, heads, d), s = y.shape, k.shape[1]
    scale = ONE(y[0, 0, 0, 0]) / np.sqrt(type(y[0, 0, 0, 0])(d))
    step_key = random_bits(draw[0], np.uint64(clock[0].before + clock[0].step))
    for pair in prange(b * heads):
        row, head = pair // heads, pair % heads
        own, own_places = memory[get_thread_id()], places[get_thread_id()]
        # 1. What is there: places, and copies of keys and values.
        scores = at(own, 0)
        keys, values = at(scores, s * BLOCK), at(scores, s * BLOCK + s * d)
        queries, out = at(values, s * d), at(values, s * d + BLOCK * d)
        transposed, largest = at(out, BLOCK * d), at(out, 2 * BLOCK * d)
        sums = at(largest, BLOCK)
        key_places, query_places = at(own_places, 0), at(own_places, s)
        limits, random_keys = at(own_places, s + t), at(own_places, s + 2 * t)
        s_there, t_there = find(key_places, key_mask[row]), find(query_places, query_mask[row])
        limit(limits, query_places, key_places, t_there, s_there, causal[0])
        pack(keys, at(k[row], first[1] + head * d), k.shape[2], key_places, s_there, d, ONE(scale))
        pack(values, at(v[row], first[2] + head * d), v.shape[2], key_places, s_there, d, ONE(scale))
        if draw[1]:
            pair_key = random_bits(step_key, draw[2] * np.uint64(heads) + np.uint64(pair))
            for i in range(t_there):
                random_keys[i] = np.int64(random_bits(pair_key, np.uint64(query_places[i])))
        # 2. Blocks of queries.
        y_first = at(y[row], head * d)
        clear(y_first, heads * d, t, d)
        for i in range(t):
            statistics[row, head, 0, i] = statistics[row, head, 1, i] = ZERO(scale)
        for i in range(0, t_there, BLOCK):
            r = min(BLOCK, t_there - i)
            pack(queries, at(q[row], first[0] + head * d), q.shape[2], at(query_places, i), r, d, scale)
            transpose_rows(transposed, BLOCK, queries, d, in_vectors(r), d)
            own_limits = at(limits, i)
            keys_by_queries(scores, own_limits, r, keys, transposed, d)
            exponentials(scores, own_limits, r, largest, sums)
            if draw[1]:
                drop(scores, own_limits[r - 1], r, key_places, at(random_keys, i), draw[1])
            sum_over_keys(out, scores, own_limits, r, values, d)
            for c in range(r):
                if own_limits[c]:
                    place, inverse = query_places[i + c], ONE(scale) / sums[c]
                    statistics[row, head, 0, place], statistics[row, head, 1, place] = largest[c], inverse
                    target, source = at(y_first, place * heads * d), at(out, c * d)
                    for f in range(d):
                        target[f] = source[f] * inverse


@kernel(attend_backward_reference, f"(b,t,A) (b,s,B) (b,s,C) (b,t,h,d) (b,h,2,t) {_SHAPES}", cycles=1 / 3, **_ARGUMENTS)
def attend_backward(
    dq, dk, dv, dy, statistics, q, k, v, first, query_mask, key_mask, causal, draw, clock, memory, places
):  # fmt: skip
    """The gradients of q, k and v, in the same columns of arrays of the same shapes; other columns stay."""
    (b, t, heads, d), s = dy.shape, k.shape[1]
    scale = ONE(dy[0, 0, 0, 0]) / np.sqrt(type(dy[0, 0, 0, 0])(d))
    step_key = random_bits(draw[0], np.uint64(clock[0].before + clock[0].step))
    for pair in prange(b * heads):
        row, head = pair // heads, pair % heads
        own, own_places = memory[get_thread_id()], places[get_thread_id()]
        # 1. What is there: places, and copies of keys and values.
        scores, slopes = at(own, 0), at(own, s * BLOCK)
        keys = at(slopes, s * BLOCK)
        values, dkeys, dvalues = at(keys, s * d), at(keys, 2 * s * d), at(keys, 3 * s * d)
        queries = at(keys, 4 * s * d)
        dout, dqueries = at(queries, BLOCK * d), at(queries, 2 * BLOCK * d)
        transposed, dtransposed = at(queries, 3 * BLOCK * d), at(queries, 4 * BLOCK * d)
        largest = at(queries, 5 * BLOCK * d)
        inverse, means = at(largest, BLOCK), at(largest, 2 * BLOCK)
        key_places, query_places = at(own_places, 0), at(own_places, s)
        limits, random_keys = at(own_places, s + t), at(own_places, s + 2 * t)
        s_there, t_there = find(key_places, key_mask[row]), find(query_places, query_mask[row])
        limit(limits, query_places, key_places, t_there, s_there, causal[0])
        pack(keys, at(k[row], first[1] + head * d), k.shape[2], key_places, s_there, d, ONE(scale))
        pack(values, at(v[row], first[2] + head * d), v.shape[2], key_places, s_there, d, ONE(scale))
        if draw[1]:
            pair_key = random_bits(step_key, draw[2] * np.uint64(heads) + np.uint64(pair))
            for i in range(t_there):
                random_keys[i] = np.int64(random_bits(pair_key, np.uint64(query_places[i])))
        # 2. Blocks of queries.
        dq_first, dk_first, dv_first = (
            at(dq[row], first[0] + head * d), at(dk[row], first[1] + head * d), at(dv[row], first[2] + head * d)
        )  # fmt: skip
        clear(dkeys, d, s_there, d)
        clear(dvalues, d, s_there, d)
        clear(dq_first, dq.shape[2], t, d)
        for i in range(0, t_there, BLOCK):
            r = min(BLOCK, t_there - i)
            own_places, own_limits = at(query_places, i), at(limits, i)
            n = own_limits[r - 1]
            pack(queries, at(q[row], first[0] + head * d), q.shape[2], own_places, r, d, scale)
            pack(dout, at(dy[row], head * d), heads * d, own_places, r, d, ONE(scale))
            for c in range(r):
                largest[c] = statistics[row, head, 0, own_places[c]]
                inverse[c] = statistics[row, head, 1, own_places[c]]
            transpose_rows(transposed, BLOCK, queries, d, in_vectors(r), d)
            transpose_rows(dtransposed, BLOCK, dout, d, in_vectors(r), d)
            keys_by_queries(scores, own_limits, r, keys, transposed, d)
            keys_by_queries(slopes, own_limits, r, values, dtransposed, d)
            probabilities(scores, own_limits, r, largest, inverse)
            if draw[1]:
                drop(slopes, n, r, key_places, at(random_keys, i), draw[1])
            softmax_slopes(slopes, scores, own_limits, r, means)
            if draw[1]:
                drop(scores, n, r, key_places, at(random_keys, i), draw[1])
            sum_over_keys(dqueries, slopes, own_limits, r, keys, d)
            add_over_queries(dkeys, slopes, own_limits, r, queries, d)
            add_over_queries(dvalues, scores, own_limits, r, dout, d)
            unpack(dq_first, dq.shape[2], own_places, dqueries, r, d, scale)
        clear(dk_first, dk.shape[2], s, d)
        clear(dv_first, dv.shape[2], s, d)
        unpack(dk_first, dk.shape[2], key_places, dkeys, s_there, d, ONE(scale))
        unpack(dv_first, dv.shape[2], key_places, dvalues, s_there, d, ONE(scale))
