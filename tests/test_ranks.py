"""Fits on several ranks: the bits of one process, and one end for all. They need mpi4py and an MPI."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import ranks_program

import nbbp

pytest.importorskip("mpi4py")
TESTS = pathlib.Path(__file__).parent
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]))
ENVIRONMENT = os.environ | {  # Open MPI asks for permission to take turns on a core, and to run as root
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")

BEGIN = """
    import os, pathlib, sys, time
    import numpy as np
    from mpi4py import MPI
    import nbbp
    sys.path.insert(0, TESTS)
    from ranks_program import network, table
    comm, (X, y) = MPI.COMM_WORLD, table()
    model = network(nbbp.Dense(20, "tanh"))
    how = {"epochs": 4, "batch_size": 64, "verbose": 0, "communicator": comm}
"""


def start(ranks: int, *command) -> subprocess.Popen:
    line = [MPIEXEC, "-n", str(ranks), sys.executable, "-m", "mpi4py", *map(str, command)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=ENVIRONMENT, start_new_session=True, **pipes)


def script(folder: pathlib.Path, text: str) -> pathlib.Path:
    path = folder / "train.py"
    path.write_text(f"TESTS = {str(TESTS)!r}\n" + textwrap.dedent(BEGIN) + textwrap.dedent(text))
    return path


def run(ranks: int, *command, code: int | None = 0) -> tuple[str, str]:
    """What the ranks wrote to stdout and stderr; they have 100 s, and fail if no code is given."""
    process = start(ranks, *command)
    try:
        out, err = process.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert (process.returncode != 0) if code is None else (process.returncode == code), out + err
    return out, err


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    return ranks_program.run(ranks_program.CASES)


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)])
def test_bits_are_those_of_one_process(ranks, expected):
    out, _ = run(ranks, TESTS / "ranks_program.py")
    assert json.loads(out) == ranks * [expected]


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_long_gradients_are_added_while_others_are_computed(ranks):
    cases = ["long", "normalized", "convolution", "plain_numpy"]
    out, _ = run(ranks, TESTS / "ranks_program.py", ranks, *cases)
    assert json.loads(out) == ranks * [ranks_program.run(cases, shards=ranks)]


def test_a_fit_goes_on_with_another_number_of_ranks(tmp_path):
    text = """
        folder, epochs = sys.argv[1], int(sys.argv[2])
        model.fit(X, y, **how | {"epochs": epochs}, resume=folder, callbacks=[nbbp.Checkpoint(folder, every=3)])
        if comm.rank == 0:
            model.save(folder + "/model.safetensors")
    """
    path = script(tmp_path, text)
    for ranks, epochs in ((4, 1), (2, 3)):
        run(ranks, path, tmp_path / "a", epochs)
    X, y = ranks_program.table()
    resumed, whole = (ranks_program.network(nbbp.Dense(20, "tanh")) for _ in range(2))
    resumed.fit(X, y, 4, 64, resume=tmp_path / "a", callbacks=[nbbp.Checkpoint(tmp_path / "a", every=3)], verbose=0)
    whole.fit(X, y, 4, 64, shards=4, verbose=0)
    assert resumed.params.tobytes() == whole.params.tobytes()


def test_ranks_with_rows_of_their_own_train_as_on_all_of_them(tmp_path):
    """In the order in which a mini-batch has them: first the rows of rank 0."""
    text = """
        own = comm.rank
        X, y = X[:160].reshape(5, 2, 16, 9)[:, own].reshape(80, 9), y[:160].reshape(5, 2, 16)[:, own].reshape(80)
        weights = np.linspace(0, 1, 160).reshape(5, 2, 16)[:, own].reshape(80)
        history = model.fit(X, y, **how | {"batch_size": 32}, sample_weight=weights, shuffle=False,
                            validation_data=(X, y))
        model.save(f"{sys.argv[1]}/{own}.safetensors")
        np.save(f"{sys.argv[1]}/{own}.npy", [history["loss"], history["accuracy"], history["val_accuracy"]])
    """
    run(2, script(tmp_path, text), tmp_path)
    X, y = (array[:160] for array in ranks_program.table())
    model = ranks_program.network(nbbp.Dense(20, "tanh"))
    weights = np.linspace(0, 1, 160)
    history = model.fit(X, y, 4, 32, (X, y), shuffle=False, shards=2, sample_weight=weights, verbose=0)
    for rank in range(2):
        assert nbbp.load(tmp_path / f"{rank}.safetensors").params.tobytes() == model.params.tobytes()
        found = np.load(tmp_path / f"{rank}.npy")
        np.testing.assert_allclose(found, [history["loss"], history["accuracy"], history["val_accuracy"]], rtol=1e-6)


def test_streams_and_masks_of_their_own(tmp_path):
    text = """
        from nbbp import streams
        from ranks_program import sequences
        X, y = X[comm.rank::2][:97], y[comm.rank::2][:97]
        history = model.fit(streams.from_arrays(X, y, buffer_rows=40), **how)
        assert len(history.step_loss) == 4 * 4 and len(set(map(bytes, comm.allgather(model.params.tobytes())))) == 1
        X, y = sequences()
        X, y, lengths = X[comm.rank::2], y[comm.rank::2], 1 + np.arange(35) % (3 + comm.rank)
        model = network(nbbp.GRU(5, return_sequences=True))
        history = model.fit(X, np.tile(y[:, None], 6), **how | {"batch_size": 32}, lengths=lengths)
        assert len(set(comm.allgather(str(history.epochs)))) == 1 and history["loss"][-1] < history["loss"][0]
    """
    run(2, script(tmp_path, text))


def test_first_values_are_those_of_the_first_rank(tmp_path):
    text = """
        own = nbbp.Dense(20, "tanh", initializer="unit_variance")
        model = network(own)
        model.fit(X[comm.rank :: 2][:97], y[comm.rank :: 2][:97], **how)
        assert len(set(map(bytes, comm.allgather(model.params.tobytes())))) == 1
    """
    run(2, script(tmp_path, text))


def test_ranks_of_one_machine_share_its_threads(tmp_path):
    text = """
        from nbbp.kernels import threads
        alone, seen = threads.count(), []
        model.fit(X, y, **how, callbacks=[nbbp.callbacks.Call(lambda fit: seen.append(threads.count()))])
        told = comm.gather((alone, set(seen), threads.count()))
        if comm.rank == 0:
            print(told == 2 * [(alone, {max(1, alone // 2)}, alone)], told)
    """
    out, _ = run(2, script(tmp_path, text))
    assert out.startswith("True"), out


def test_nbbp_train_on_two_ranks(tmp_path, rng):
    lines = [f"{a:.3f},{b:.3f},{'xyz'[k % 3]},{3 * a + b:.3f}" for k, (a, b) in enumerate(rng.random((90, 2)))]
    (tmp_path / "data.csv").write_text("\n".join(["a,b,town,price", *lines]))
    command = ["nbbp", "train", tmp_path / "data.csv", "--epochs", 2, "--output", tmp_path / "run", "--target"]
    out, _ = run(2, "-m", *command, "price")
    assert out.count("test R2") == 1
    assert (tmp_path / "run" / "model.safetensors").exists()
    _, err = run(2, "-m", *command, "cost", code=2)
    assert err.count("has no column 'cost'") == 1


REFUSED = {
    "seed": ('model = network(nbbp.Dense(20, "tanh"), seed=comm.rank)', "seed is 0 on rank 0 and 1 on rank 1"),
    "shapes": (
        "X = X[:, : 9 - comm.rank]",
        r"X float32 (rows, 9), y int64 (rows, 1) on rank 0 and X float32 (rows, 8)",
    ),
    "version": (
        "import nbbp.training.agreement as a; a.__version__ = f'9.{comm.rank}'",
        "nbbp's version is 9.0 on rank 0 and 9.1 on rank 1",
    ),
    "weights": ("model.build(9); model.params[0] += comm.rank", "the digest of the parameters"),
    "arguments": ("how['epochs'] += comm.rank", "epochs is 4 on rank 0 and 5 on rank 1"),
    "steps": ("X, y = X[comm.rank * 90 :], y[comm.rank * 90 :]", "195 and 105, which in mini-batches of 64"),
    "one": ("X[comm.rank, 0] = np.nan if comm.rank else 0", "rank 1 of 2 has stopped: ValueError: X must be finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_ranks_that_differ_are_refused_before_the_first_step(tmp_path, name):
    change, message = REFUSED[name]
    text = f"""
        {change}
        said = ""
        try:
            model.fit(X, y, **how)
        except (ValueError, RuntimeError) as error:
            said = str(error)
        said = comm.gather(said)
        if comm.rank == 0:
            print(*said, sum(map(bool, said)), "ranks are told")
    """
    out, _ = run(2, script(tmp_path, text))
    assert message in out
    assert "2 ranks are told" in out


def test_a_number_of_ranks_that_has_no_equal_parts_is_refused(tmp_path):
    for given, parts in (
        ("", "a mini-batch: take a number of ranks among 1, 2, 4, 8, 16"),
        (", shards=2", "2 shards: "),
    ):
        text = f"""
            try:
                model.fit(X, y, **how{given})
            except ValueError as error:
                print(*comm.gather(str(error)) or (), end="")
        """
        out, _ = run(3, script(tmp_path, text))
        assert out.count(f"3 ranks cannot have equal parts of {parts}") == 3


ENDS = {
    "error": (
        "def act(fit): 1 / (len(fit.history) < 2 or comm.rank == 0)",
        "rank 1 of 2 has stopped: ZeroDivisionError",
    ),
    "stop": ("def act(fit): comm.rank and len(fit.history) == 3 and fit.stop('enough')", "enough 3 enough 3"),
    "signal": (
        "def act(fit): comm.rank and len(fit.history) == 3 and os.kill(os.getpid(), 2)",
        "KeyboardInterrupt 3 KeyboardInterrupt 3",
    ),
    "divergence": (
        "model = nbbp.Sequential([nbbp.Dense(1)], optimizer=nbbp.SGD(1e30))\ndef act(fit): pass",
        "DivergenceError 0 DivergenceError 0",
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_ends_one_rank_ends_all(tmp_path, name):
    act, message = ENDS[name]
    text = """
        try:
            model.fit(X, y, **how | {"epochs": 9}, callbacks=[nbbp.callbacks.Call(act)])
            ended = model.history.stopped
        except BaseException as error:
            ended = f"{type(error).__name__}" if not isinstance(error, nbbp.distributed.RankError) else error
        said = comm.gather(f"{ended} {len(model.history)}")
        print(*said or (), end="")
    """
    path = script(tmp_path, text)
    begin, end = path.read_text().split("how = ", 1)
    path.write_text(begin + act + "\nhow = " + end)
    out, _ = run(2, path)
    assert message in out


def killed(folder: pathlib.Path, rng: np.random.Generator, path: pathlib.Path) -> float:
    """Kill a rank at random, during the fit; returns the seconds until all processes have ended."""
    process = start(2, path, folder)
    files = [folder / str(rank) for rank in range(2)]
    while not all(file.exists() and file.read_text() for file in files):
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.4))
    os.kill(int(files[rng.integers(2)].read_text()), signal.SIGKILL)
    begin = time.monotonic()
    said = process.communicate(timeout=60)
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)
        file.unlink()
    assert process.returncode
    assert "".join(said).strip()
    return time.monotonic() - begin


@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.soak)])
def test_a_killed_rank_ends_all_and_loses_nothing_since_the_last_checkpoint(tmp_path, kills):
    text = """
        import threading
        folder, epochs = sys.argv[1], 300_000 if len(sys.argv) < 3 else int(sys.argv[2])
        model.build(9)
        if len(sys.argv) < 3:
            pathlib.Path(folder, str(comm.rank)).write_text(str(os.getpid()))
        model.fit(X, y, **how | {"epochs": epochs}, resume=folder, callbacks=[nbbp.Checkpoint(folder, every=500)])
        if comm.rank == 0:
            model.save(folder + "/model.safetensors")
    """
    path, rng = script(tmp_path, text), np.random.default_rng()
    assert max(killed(tmp_path, rng, path) for _ in range(kills)) < 5
    steps = max((int(file.stem[5:]) for file in tmp_path.glob("step_*")), default=0)
    epochs = steps // 4 + 2
    run(2, path, tmp_path, epochs)
    X, y = ranks_program.table()
    whole = ranks_program.network(nbbp.Dense(20, "tanh"))
    whole.fit(X, y, epochs, 64, shards=2, verbose=0)
    assert nbbp.load(tmp_path / "model.safetensors").params.tobytes() == whole.params.tobytes()
