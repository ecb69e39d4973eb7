"""Steps: the places in a column of numbers where a target changes."""

import heapq

import numpy as np

SMALLEST = 0.01  # share of the rows on either side of a step, down to the one before
CANDIDATES = 1024  # places between neighbouring numbers that are tried, evenly over the rows
DEVIATES = 2.6  # of a normal distribution: a chance of 0.005 at each candidate where there is nothing


def steps(x: np.ndarray, y: np.ndarray, most: int) -> list[tuple[float, float]]:
    """Up to `most` pairs of neighbouring numbers of x (rows,) between which y (rows,) changes, in ascending order.

    They are the splits of a tree on this column alone, the best first: those that most raise the log likelihood of
    classes y, integers from 0, or of values y around the means of their leaves. A split for which the test of the
    likelihood ratio finds nothing is left out, so that a column that says nothing has no step. Missing numbers are nan.
    """
    known = ~np.isnan(x)
    order = np.argsort(x[known], kind="stable")
    x, y = x[known][order], y[known][order]
    between = np.flatnonzero(x[1:] > x[:-1]) + 1  # candidate c has the rows before c on its left
    if len(between) > CANDIDATES:
        between = between[np.linspace(0, len(between) - 1, CANDIDATES).round().astype(int)]
    counts = np.array([0, *between, len(x)])
    classes = y.dtype.kind == "i"
    sums = _class_counts(y, counts) if classes else _sums(y, counts)
    bar, smallest = _bar(max(1, sums.shape[1] - 1)), max(3, int(SMALLEST * len(x)))

    def best(a: int, b: int) -> tuple[float, int, int, int] | None:
        """The best split between two places: twice its gain, negative, and the three places."""
        tried = np.arange(a + 1, b)
        left, right = counts[tried] - counts[a], counts[b] - counts[tried]
        wide = (left >= smallest) & (right >= smallest)
        tried, left, right = tried[wide], left[wide], right[wide]
        if not len(tried):
            return None
        fit = _class_fit if classes else _value_fit
        gains = fit(sums[tried] - sums[a], left) + fit(sums[b] - sums[tried], right)
        gain = 2 * float(gains.max() - fit(sums[b : b + 1] - sums[a], counts[b : b + 1] - counts[a])[0])
        return (-gain, a, int(tried[np.argmax(gains)]), b) if gain > bar else None

    waiting = [split for split in [best(0, len(counts) - 1)] if split]
    found: list[int] = []
    while waiting and len(found) < most:
        _, a, c, b = heapq.heappop(waiting)
        found.append(int(counts[c]))
        for split in (best(a, c), best(c, b)):
            if split:
                heapq.heappush(waiting, split)
    return [(float(x[c - 1]), float(x[c])) for c in sorted(found)]


def _class_counts(y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The rows of each class before each place (places, classes)."""
    classes = int(y.max(initial=0)) + 1
    piece = np.searchsorted(counts, np.arange(len(y)), side="right")
    return np.bincount(piece * classes + y, minlength=len(counts) * classes).reshape(-1, classes).cumsum(axis=0)


def _sums(y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The sum of the standardized values before each place (places, 1)."""
    z = (y - y.mean()) / (y.std() or 1.0) if len(y) else y
    return np.concatenate([[0.0], np.cumsum(z)])[counts, np.newaxis]


def _class_fit(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The log likelihood of leaves with so many rows of each class."""
    return (sums * np.log(np.maximum(sums, 1) / rows[:, np.newaxis])).sum(axis=1)


def _value_fit(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The log likelihood of leaves of values with variance 1, but for what all splits have in common."""
    return sums[:, 0] ** 2 / (2 * rows)


def _bar(freedom: int) -> float:
    """The quantile of the chi-squared distribution at `DEVIATES`, by Wilson and Hilferty, 1931."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + DEVIATES * part**0.5) ** 3
