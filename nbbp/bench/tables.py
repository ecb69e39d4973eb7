"""Errors and seconds of nbbp's presets and other estimators on real tables.

All are used as they come, on as many threads as nbbp, trained on four fifths of a table and tested on the rest. The
tables that nbbp's defaults were chosen on are apart from those that figures are reported of.
"""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from nbbp.bench.real_tables import MOST_ROWS, NotInstalled, RealTable, split
from nbbp.bench.tabular_peers import REFERENCE, TABULAR_PEERS
from nbbp.kernels import threads

LEAST_PROBABILITY = 1e-6  # of the true class, in the log loss


@dataclasses.dataclass(frozen=True)
class Score:
    """Of one estimator on one split.

    Attributes
    ----------
    error : float
        1 - accuracy, of which half a wrong row is the least; or the root mean squared error.
    log_loss : float
        nan for values.
    seconds : float
        Of fit and prediction.
    """

    error: float
    log_loss: float
    seconds: float


@dataclasses.dataclass
class TableResult:
    """The scores of each estimator on one table, split after split, and why an estimator is missing."""

    table: RealTable
    rows: int
    scores: dict[str, list[Score]] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)

    def mean(self, peer: str, figure: str) -> float:
        """The mean over the splits of "error", "log_loss" or "seconds"."""
        return float(np.mean([getattr(score, figure) for score in self.scores[peer]]))

    def relative(self, peer: str, figure: str) -> float:
        """The same relative to `REFERENCE`."""
        return self.mean(peer, figure) / self.mean(REFERENCE, figure)


@dataclasses.dataclass(frozen=True)
class Summary:
    """Of one estimator on several tables: geometric means relative to `REFERENCE`, and seconds of a split of each."""

    peer: str
    tables: int
    error: float
    log_loss: float
    seconds: float


def measure(
    tables: Sequence[RealTable],
    peers: Sequence[str] = tuple(TABULAR_PEERS),
    splits: int = 3,
    most_rows: int = MOST_ROWS,
    report: Callable[[TableResult], None] = lambda result: None,
) -> list[TableResult]:
    """Fit every estimator to every table; those whose package is not installed are left out.

    Parameters
    ----------
    tables : sequence of RealTable
    peers : sequence of str
        Keys of `TABULAR_PEERS`.
    splits : int
        Into rows to train and to test on, each with seeds of its own.
    most_rows : int
        Of a table; of larger ones so many are drawn.
    report
        Called with each result as soon as it is available.
    """
    results = []
    chosen = list(dict.fromkeys([REFERENCE, *peers]))
    started: set[tuple[str, bool]] = set()
    for table in tables:
        result = TableResult(table, 0)
        for seed in range(splits):
            try:
                X, X_test, y, y_test = split(table, seed, most_rows)
            except NotInstalled as error:
                result.missing = dict.fromkeys(chosen, f"{error} is not installed")
                break
            result.rows = len(X) + len(X_test)
            for peer in [peer for peer in chosen if peer not in result.missing]:
                try:
                    if (peer, table.classes) not in started:
                        _start(peer, table.classes)
                        started.add((peer, table.classes))
                    score = _score(peer, table.classes, seed, X, X_test, y, y_test)
                    result.scores.setdefault(peer, []).append(score)
                except ImportError as error:
                    result.missing[peer] = str(error)
        results.append(result)
        report(result)
    return results


def _start(peer: str, classes: bool) -> None:
    """A small fit whose time is not measured: imports, and compiled kernels from the cache."""
    X, X_test, y, y_test = split(RealTable("digits", "target", classes, "sklearn", "digits"), 0)
    _score(peer, classes, 0, X[:200], X_test[:50], y[:200], y_test[:50])


def _score(peer: str, classes: bool, seed: int, X, X_test, y, y_test) -> Score:
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(threads.count()):
        warnings.simplefilter("ignore")
        estimator = TABULAR_PEERS[peer](classes, seed)
        begin = time.perf_counter()
        estimator.fit(X, y)
        predicted = estimator.predict_proba(X_test) if classes else estimator.predict(X_test)
        seconds = time.perf_counter() - begin
    predicted = np.asarray(predicted, np.float64)
    if not classes:
        return Score(float(np.sqrt(np.mean((predicted.ravel() - y_test) ** 2))), math.nan, seconds)
    wrong = max(0.5, np.sum(predicted.argmax(axis=1) != y_test))
    of_truth = predicted[np.arange(len(y_test)), y_test] / predicted.sum(axis=1)
    return Score(float(wrong / len(y_test)), float(-np.log(np.maximum(of_truth, LEAST_PROBABILITY)).mean()), seconds)


def summaries(results: Sequence[TableResult]) -> list[Summary]:
    """Of each estimator, the best first, on the tables on which it was measured."""
    found = []
    for peer in dict.fromkeys(peer for result in results for peer in result.scores):
        on = [result for result in results if peer in result.scores]
        errors = [result.relative(peer, "error") for result in on]
        log_losses = [result.relative(peer, "log_loss") for result in on if result.table.classes]
        seconds = sum(result.mean(peer, "seconds") for result in on)
        found.append(Summary(peer, len(on), _geometric_mean(errors), _geometric_mean(log_losses), seconds))
    return sorted(found, key=lambda summary: summary.error)


def _geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(np.mean(np.log(ratios))) if len(ratios) else math.nan


def header(peers: Sequence[str]) -> str:
    return f"{'table':15}{'rows':>7}{REFERENCE:>22}" + "".join(f"{p:>16}" for p in peers if p != REFERENCE)


def line(result: TableResult, peers: Sequence[str]) -> str:
    """The reference's error, and the others' relative to it; in brackets seconds."""
    cells = []
    for peer in peers:
        if peer == REFERENCE:
            continue
        known = peer in result.scores
        cells.append(f"{result.relative(peer, 'error'):.3f} ({result.mean(peer, 'seconds'):.1f})" if known else "-")
    if not result.scores:
        return f"{result.table.name:15} left out: {next(iter(result.missing.values()))}"
    reference = f"{result.mean(REFERENCE, 'error'):,.4g} ({result.mean(REFERENCE, 'seconds'):.1f})"
    return f"{result.table.name:15}{result.rows:7,}{reference:>22}" + "".join(f"{cell:>16}" for cell in cells)


def table(found: Sequence[Summary]) -> list[str]:
    """A line for each estimator."""
    lines = [f"{'estimator':22}{'tables':>7}{'error':>8}{'log loss':>10}{'seconds':>9}"]
    for each in found:
        log_loss = "-" if math.isnan(each.log_loss) else f"{each.log_loss:.3f}"
        lines.append(f"{each.peer:22}{each.tables:7}{each.error:8.3f}{log_loss:>10}{each.seconds:9.1f}")
    return lines


def missing(results: Sequence[TableResult]) -> list[str]:
    """The estimators that were left out, and why."""
    reasons = dict.fromkeys(item for result in results if result.scores for item in result.missing.items())
    return [f"{peer} left out: {why}" for peer, why in reasons]


def as_json(result: TableResult) -> dict:
    """Every split's scores."""
    scores = {peer: [dataclasses.asdict(score) for score in each] for peer, each in result.scores.items()}
    return {"table": result.table.name, "rows": result.rows, "scores": scores, "missing": result.missing}
