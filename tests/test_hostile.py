"""Arrays of every form at every public door: a clear ValueError or TypeError, or what a plain copy gives."""

import gc
import importlib.util
import sys
import warnings
from collections.abc import Callable

import matplotlib.pyplot
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nbbp

RNG = np.random.default_rng(0)
GOOD = {
    "x": RNG.standard_normal((6, 2)),
    "labels": np.array([0, 1, 2, 0, 1, 2]),
    "values": RNG.standard_normal((6, 1)),
    "weight": np.arange(6.0),
}
PREDICTION, TRUTH = RNG.dirichlet(np.ones(3), 6), np.eye(2)[[0, 1, 0, 1, 0, 1]]
MODELS = {
    (loss, backend): nbbp.Sequential([nbbp.Dense(units)], loss, backend=backend, metrics=metrics)
    for loss, units, metrics in (("softmax_cross_entropy", 3, ["f1"]), ("mse", 1, ["r2"]))
    for backend in ("numba", "numpy")
}
for built in MODELS.values():
    built.build(2)

KINDS = [
    "?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g", "F", "D", "M8[s]", "m8[s]", "U8", "S8",
    "O", "V4", ">i2", ">u8", ">f2", ">f4", ">f8", "<f8",
]  # fmt: skip
NUMBERS = {
    "classes": [0, 1, 2],
    "values": [0.5, -0.25, 3.0, 1e-3],
    "odd": [np.nan, np.inf, -np.inf, 5e-324, -1e-310, 1e-40, 1e38, -1e39, 1e308, 2.0**63, -1.0, 0.5],
}
LAYOUTS: dict[str, Callable] = {
    "plain": lambda a: a,
    "columns first": np.asfortranarray,
    "backwards": lambda a: a[::-1].copy()[::-1] if a.ndim else a,
    "mirrored": lambda a: a[..., ::-1].copy()[..., ::-1] if a.ndim else a,
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and len(a) else a,
    "one number": lambda a: np.broadcast_to(a.ravel()[:1].reshape((1,) * a.ndim), a.shape) if a.size else a,
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) if a.size and a.dtype != "O" else a,
    "unaligned": lambda a: _unaligned(a),
    "matrix": lambda a: np.matrix(a) if a.ndim == 2 and a.dtype.kind != "V" else a,
    "list": lambda a: a.tolist(),
    "rows": lambda a: list(a) if a.ndim else a,
    "tuple": lambda a: tuple(a.tolist()) if a.ndim else a,
    "objects": lambda a: a.astype("O"),
    "wrapped": lambda a: [a],
    "unmasked": np.ma.array,
    "masked": lambda a: np.ma.array(a, mask=np.arange(a.size).reshape(a.shape) == a.size - 1),
    "masked rows": lambda a: [np.ma.array(row, mask=True) for row in a] if a.ndim > 1 else np.ma.array(a, mask=True),
    "sparse": lambda a: _made("scipy.sparse", "csr_array", a),
    "pandas": lambda a: _table("pandas", a),
    "polars": lambda a: _table("polars", a),
}
REFUSED = {"masked", "masked rows", "sparse"}
NEVER_NUMBERS = "cMmUSV"


def _unaligned(a: np.ndarray) -> np.ndarray:
    if a.dtype == "O" or not a.size:
        return a
    return np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)


def _table(library: str, a: np.ndarray):
    """A table or a column; the array where narwhals, with which tables are read, is missing."""
    return _made(library, "DataFrame" if a.ndim == 2 else "Series", a) if importlib.util.find_spec("narwhals") else a


def _made(library: str, kind: str, a: np.ndarray):
    """A library's own array of such numbers; the array where it has none."""
    if a.dtype == "O":
        return a
    try:
        return getattr(importlib.import_module(library), kind)(a)
    except Exception:
        return a


def _bits(hostile) -> object:
    """What must not change."""
    if isinstance(hostile, np.ndarray) and hostile.dtype != "O":
        return hostile.tobytes()
    return repr(np.asarray(hostile).tolist()) if hasattr(hostile, "to_numpy") else repr(hostile)


DOORS: dict[str, Callable] = {
    "predict": lambda m, x, y, w: m.predict(x),
    "evaluate": lambda m, x, y, w: list(m.evaluate(x, y, w).values()),
    "gradients": lambda m, x, y, w: np.concatenate([g.ravel() for g in m.gradients(x, y).values()]),
    "fit": lambda m, x, y, w: _fitted(m, x, y, sample_weight=w),
    "fit with classes": lambda m, x, y, w: _fitted(m, x, y, class_weight="balanced" if m.loss.of_classes else None),
    "validation": lambda m, x, y, w: _fitted(m, GOOD["x"], _target(m), validation_data=(x, y, w)),
    "new model": lambda m, x, y, w: _fitted(nbbp.Sequential([nbbp.Dense(3)], m.loss, backend="numpy"), x, y),
    "compare": lambda m, x, y, w: nbbp.compare(m, x, y, steps=2, batch_size=4).compiled,
    "check_gradients": lambda m, x, y, w: list(nbbp.check_gradients(m, x, y).values()),
    "find_learning_rate": lambda m, x, y, w: nbbp.find_learning_rate(m, x, y, steps=20).losses,
    "fit_lbfgs": lambda m, x, y, w: nbbp.fit_lbfgs(m.copy(), x, y, 2, sample_weight=w).step_loss,
    "ensemble": lambda m, x, y, w: _ensemble(m, x, y, w),
    "rows of a member": lambda m, x, y, w: _ensemble(m, GOOD["x"], _target(m), None, rows=[y]),
    "confusion_matrix": lambda m, x, y, w: _drawn(nbbp.plots.confusion_matrix(y, PREDICTION)),
    "predicted classes": lambda m, x, y, w: _drawn(nbbp.plots.confusion_matrix(GOOD["labels"], x)),
    **{f"metric {k}": lambda m, x, y, w, f=f: [f(y, _like(y), w)] for k, f in nbbp.METRICS.items()},
    **{f"{k} of predictions": lambda m, x, y, w, f=f: [f(TRUTH, x, w)] for k, f in nbbp.METRICS.items()},
}  # fmt: skip

IN_DOUBLE = {door for door in DOORS if door.startswith("metric ") or door.endswith(" predictions")}
IN_DOUBLE |= {"confusion_matrix", "predicted classes"}


def _target(model) -> np.ndarray:
    return GOOD["labels" if model.loss.of_classes else "values"]


def _like(y) -> np.ndarray:
    shape = np.shape(y)
    return PREDICTION if len(shape) != 2 or shape[1] == 1 else np.ones(shape) / 2


def _fitted(model, x, y, **more) -> np.ndarray:
    copy = model.copy()
    history = copy.fit(x, y, epochs=2, batch_size=4, verbose=0, **more)
    return np.concatenate([*history.epochs.values(), copy.params])


def _ensemble(model, x, y, weight, **more) -> np.ndarray:
    ensemble = nbbp.Ensemble([model.copy()])
    ensemble.fit(x, y, batch_size=4, verbose=0, **more)
    values = ensemble.evaluate(x, y, weight)
    return np.concatenate([ensemble.predict(x).ravel(), ensemble.spread(x).ravel(), list(values.values())])


def _drawn(figure) -> np.ndarray:
    shown = np.asarray(figure.axes[0].images[0].get_array())
    matplotlib.pyplot.close(figure)
    return shown


def outcome(door: Callable, *arguments) -> tuple[bool, object]:
    """Whether it worked, and the bits of the result or the message; every other exception and every warning fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return True, np.asarray(door(*arguments), np.float64).tobytes()
        except nbbp.DivergenceError:
            return True, b"diverged"
        except (ValueError, TypeError) as error:
            return False, str(error)


@st.composite
def cases(draw):
    argument, right = draw(
        st.sampled_from([("x", (6, 2)), ("y", (6,)), ("y", (6, 1)), ("y", (6, 3)), ("weight", (6,))])
    )
    shape = draw(st.one_of(st.just(right), st.just(right), st.lists(st.integers(0, 6), max_size=3).map(tuple)))
    kind = draw(st.sampled_from(KINDS))
    seed, odd = draw(st.integers(0, 999)), draw(st.booleans())
    numbers = NUMBERS["odd"] if odd else NUMBERS[draw(st.sampled_from(["classes", "values"]))]
    content = np.random.default_rng(seed).choice(numbers, shape)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind in ("M8[s]", "m8[s]", "V4"):
            array = np.zeros(shape, "i4" if kind == "V4" else "i8").view(kind)
            array = array if kind != "V4" else np.zeros(shape, [("a", "i2"), ("b", "f4")])
        else:
            array = content.astype(kind)
    return argument, array, draw(st.sampled_from(sorted(LAYOUTS))), draw(st.sampled_from(sorted(DOORS)))


tried = {"inputs": 0, "accepted": 0}


def check(case, model_name) -> None:
    (argument, array, layout, door), model = case, MODELS[model_name]
    hostile = LAYOUTS[layout](array)
    before, references = _bits(hostile), sys.getrefcount(hostile)
    arguments = {"x": GOOD["x"], "y": _target(model), "weight": None}
    given = arguments | {argument: hostile}
    worked, result = outcome(DOORS[door], model, *given.values())
    del given
    assert _bits(hostile) == before, "the caller's array was changed"
    if sys.getrefcount(hostile) > references:
        gc.collect()
    assert sys.getrefcount(hostile) <= references, "the caller's array is kept"
    tried["inputs"] += 1
    tried["accepted"] += worked
    used = outcome(DOORS[door], model, *(arguments | {argument: object()}).values())[0] is False
    if not worked:
        assert len(str(result)) > 10
        good_x = argument == "x" and door == "predict" and array.shape == (6, 2) and array.dtype.kind in "iufb"
        if good_x and layout not in REFUSED | {"wrapped"} and np.all(np.abs(array.astype("g")) < 1e37):
            raise AssertionError(f"refused: {result}")
    elif used:
        assert layout not in REFUSED or not array.size or hostile is array, f"{layout} was accepted"
        numbers = array.dtype.kind not in NEVER_NUMBERS or (array.dtype.kind == "V" and hostile is not array)
        assert numbers, f"{array.dtype} was accepted"
        plain = np.array(np.asarray(hostile), order="C")
        plain = plain.astype(np.float64) if plain.dtype == "O" else plain.astype(plain.dtype.newbyteorder("="))
        with np.errstate(all="ignore"):
            assert np.isfinite(plain.astype(np.float32)).all() or door in IN_DOUBLE, "accepted what is not finite"
        assert outcome(DOORS[door], model, *(arguments | {argument: plain}).values()) == (True, result)


@pytest.mark.slow
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.sampled_from(sorted(MODELS)))
def test_every_form_of_array_is_refused_clearly_or_understood(case, model_name):
    check(case, model_name)


@pytest.mark.soak
@settings(max_examples=50_000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(cases(), st.sampled_from(sorted(MODELS)))
def test_every_form_of_array_for_long(case, model_name):
    check(case, model_name)
