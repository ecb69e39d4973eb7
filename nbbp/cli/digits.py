"""nbbp demo and nbbp compare: the handwritten digits."""

import time

import numpy as np

from nbbp.cli.commands import Command, check_folder


def register(command: Command) -> None:
    command("demo", demo).add_argument("--output", default="nbbp-demo.png", help="the loss curve (%(default)s)")
    sub = command("compare", compare)
    sub.add_argument("--steps", type=int, default=200, help="mini-batches to train (%(default)s)")
    sub.add_argument("--output", default="nbbp-compare.png", help="the curves (%(default)s)")


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Four fifths of the digits for training, the rest for testing, drawn at random."""
    from nbbp.datasets import load_digits

    X, y = load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[: len(X) * 4 // 5], order[len(X) * 4 // 5 :]
    return X[train], y[train], X[test], y[test]


def _digits_model():
    import nbbp

    return nbbp.Sequential(
        [nbbp.Dense(128, activation="relu"), nbbp.Dense(10)],
        loss="softmax_cross_entropy",
        optimizer=nbbp.Adam(),
        metrics=["accuracy"],
    )


def demo(arguments) -> None:
    """Train 64-128-10 on real handwritten digits."""
    check_folder(arguments.output)
    X, y, X_test, y_test = _digits()
    model = _digits_model()
    model.build(X.shape[1])
    reference = model.with_backend("numpy")
    print(f"{len(X):,} handwritten digits of 8 x 8 pixels to train on, {len(X_test)} to test; a 64-128-10 relu network")
    history = model.fit(X, y, epochs=40, batch_size=32, validation_data=(X_test, y_test))
    accuracy = model.evaluate(X_test, y_test)["accuracy"]
    seconds, reference_seconds = (
        _seconds(lambda network=network: network.fit(X, y, epochs=40, batch_size=32, verbose=0)) / 40
        for network in (model, reference)
    )
    print(f"test accuracy {accuracy:.4f}")
    print(
        f"an epoch of {len(X):,} images takes {seconds * 1e3:.1f} ms, in plain NumPy {reference_seconds * 1e3:.1f} ms: "
        f"{reference_seconds / seconds:.1f} times as fast"
    )
    history.plot(arguments.output)
    print(f"loss curve in {arguments.output}")


def _seconds(function) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def compare(arguments) -> None:
    """Compare the compiled kernels with plain NumPy on the digits."""
    import nbbp

    check_folder(arguments.output)
    X, y, _, _ = _digits()
    result = nbbp.compare(_digits_model(), X, y, steps=arguments.steps)
    print(result)
    result.plot(arguments.output)
    print(f"curves in {arguments.output}")
