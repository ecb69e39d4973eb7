"""Benchmarks: the machine's limits, and the breakdown of a step."""

import dataclasses
import importlib
import json
import math

import numpy as np
import pytest

import nbbp
from nbbp.bench import limits, peak, products, profile
from nbbp.bench.convolutions import CONVOLUTIONS, LECUN_1989, LENET, PRODUCTS, SERIES, VGG
from nbbp.bench.networks import Network, Weights
from nbbp.bench.peers import nbbp as peer
from nbbp.bench.roofline import roofline
from nbbp.bench.sequences import SEQUENCES, STEPS
from nbbp.bench.workloads import WORKLOADS
from nbbp.cli import main
from nbbp.kernels.tiles import VECTOR_BYTES

pytestmark = pytest.mark.slow


def test_limits_are_positive():
    measured = limits.measure()
    assert 0 < measured.fma_peak < math.inf
    assert measured.one_thread.keys() == measured.all_threads.keys() >= {"memory"}
    assert all(0 < speed < math.inf for speed in (*measured.one_thread.values(), *measured.all_threads.values()))
    assert math.isnan(measured.core_to_core) or 0 < measured.core_to_core < 1e-4
    assert measured.or_better(measured).all_threads == measured.all_threads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_peak_is_of_fused_multiply_adds(dtype):
    width = VECTOR_BYTES // np.dtype(dtype).itemsize
    sums, factors = np.arange(2 * peak.SUMS * width, dtype=dtype).reshape(2, -1), np.arange(2 * width, dtype=dtype)
    expected = sums + 100 * np.tile(factors[:width] * factors[width:], (2, peak.SUMS))
    peak._multiply_add_parallel(sums, factors, np.array([100]))
    np.testing.assert_array_equal(sums, expected)


def test_threads_that_wait_in_vain_stop():
    assert not limits._take_turns_compiled(np.zeros(8, np.int64), 1, 3, 1000)


def test_caches_of_linux_and_without_them(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "CACHES", tmp_path)
    assert [cache.name for cache in limits.caches()] == ["L2", "L3"]
    for index, (level, size, mask) in enumerate(
        [("1", "48K", "3"), ("2", "2048K", "3"), ("3", "32768K", "00000000,ffffffff")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, text in (("level", level), ("size", size), ("shared_cpu_map", mask)):
            (folder / name).write_text(f"{text}\n")
    second, third = limits.caches()
    assert second == limits.Cache("L2", 2 << 20, 2)
    assert third == limits.Cache("L3", 32 << 20, 32)
    assert second.share(1) == 2 * second.share(2) == 2 * second.share(64)
    assert limits.sizes(2) == {"L2": 1 << 19, "L3": 8 << 20, "memory": 64 << 20}


def test_roofline_of_a_step():
    speeds = {"L2": 4e11, "L3": 2e11, "memory": 4e10}
    measured = limits.Limits(5e11, 4e-8, speeds, speeds)
    few, many = (roofline(WORKLOADS[name], measured, 1) for name in ("toy", "wide"))
    assert few.products == pytest.approx(WORKLOADS["toy"].flops / 5e11)
    assert few.bytes == pytest.approx((28 * 121 + 4 * 1000 * 10) / speeds[few.level])
    assert few.seconds == few.products + few.bytes < many.seconds


def test_operations_and_parameters_of_convolutional_networks():
    assert LENET.parameters == 61_706  # as in Keras and PyTorch
    assert LENET.products[:2] == [2 * 28 * 28 * 25 * 6, 2 * 10 * 10 * 25 * 6 * 16]
    assert VGG.parameters == 896 + 9_248 + 18_496 + 36_928 + 40_970
    assert SERIES.parameters == 1_152 + 164_096 + 98_432 + 2 * 512 + 1_290
    assert SERIES.products == [2 * 150 * 8 * 128, 2 * 150 * 5 * 128 * 256, 2 * 150 * 3 * 256 * 128, 2 * 1_280]
    assert LECUN_1989.parameters == 312 + 3_612 + 193 * 30 + 310
    workload = CONVOLUTIONS["lecun-1989"]
    assert workload.flops == 6 * (8 * 8 * 25 * 12 + 4 * 4 * 25 * 144 + 5_760 + 300) - 2 * 8 * 8 * 25 * 12
    speeds = {"L2": 4e11, "L3": 2e11, "memory": 4e10}
    allowed = roofline(workload, limits.Limits(5e11, 4e-8, speeds, speeds), 1)
    assert allowed.products == pytest.approx(workload.flops / 5e11)
    assert allowed.bytes == pytest.approx((28 * workload.parameters + 4 * 16 * 16) / speeds[allowed.level])


def _disturbed(network: Network) -> Weights:
    """Weights of which none is 0, and running averages of a network that has been trained."""
    rng = np.random.default_rng(1)
    return [
        {name: a + rng.uniform(0.1, 0.3, a.shape).astype(np.float32) * (a.ndim == 1) for name, a in own.items()}
        for own in network.weights()
    ]


def _samples(network: Network) -> np.ndarray:
    return np.random.default_rng(2).random((3, *network.shape), dtype=np.float32)


def _probabilities(network: Network, weights: Weights) -> np.ndarray:
    model = nbbp.Sequential(network.layers, loss="softmax_cross_entropy")
    model.build(network.shape)
    named = model.network.layout.named(model.network.params, model.network.state)
    for array, values in zip(named.values(), (a for own in weights for a in own.values()), strict=True):
        array[...] = values
    return model.predict(_samples(network))


@pytest.mark.parametrize("network", [LENET, VGG, SERIES, LECUN_1989], ids=["lenet", "vgg", "series", "lecun-1989"])
class TestTheSameNetwork:
    def test_in_pytorch(self, network):
        torch = pytest.importorskip("torch")
        from nbbp.bench.networks.torch import module

        weights = _disturbed(network)
        theirs = module(network, weights).eval()
        assert sum(p.numel() for p in theirs.parameters()) == network.parameters
        x = torch.from_numpy(np.moveaxis(_samples(network), -1, 1).copy())
        with torch.inference_mode():
            np.testing.assert_allclose(theirs(x).softmax(1), _probabilities(network, weights), rtol=1e-4, atol=1e-6)

    def test_in_jax(self, network):
        jax = pytest.importorskip("jax")
        from nbbp.bench.networks.jax import arrays, forward

        weights = _disturbed(network)
        params, averages = arrays(weights)
        assert sum(a.size for a in jax.tree.leaves(params)) == network.parameters
        z, _ = forward(network, params, averages, _samples(network), training=False)
        np.testing.assert_allclose(jax.nn.softmax(z), _probabilities(network, weights), rtol=1e-4, atol=1e-6)

    def test_in_onnx(self, network):
        pytest.importorskip("onnx")
        onnxruntime = pytest.importorskip("onnxruntime")
        from nbbp.bench.networks.onnx import model

        weights = _disturbed(network)
        session = onnxruntime.InferenceSession(
            model(network, weights).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (p,) = session.run(None, {"x": np.moveaxis(_samples(network), -1, 1).copy()})
        np.testing.assert_allclose(p, _probabilities(network, weights), rtol=1e-4, atol=1e-6)


def test_statistics_of_mini_batches_in_jax_are_those_of_pytorch():
    jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
    from nbbp.bench.networks.jax import arrays, forward
    from nbbp.bench.networks.torch import module

    weights = _disturbed(SERIES)
    theirs, x = module(SERIES, weights).train(), _samples(SERIES)
    z, averages = forward(SERIES, *arrays(weights), x, training=True)
    expected = theirs(torch.from_numpy(np.moveaxis(x, -1, 1).copy()))
    np.testing.assert_allclose(z, expected.detach(), rtol=1e-4, atol=1e-5)
    running = [buffer for name, buffer in theirs.named_buffers() if "running" in name]
    for own, buffer in zip(jax.tree.leaves(averages), running, strict=True):
        np.testing.assert_allclose(own, buffer, rtol=1e-4, atol=1e-6)


def test_operations_and_parameters_of_networks_of_sequences():
    lstm, ragged, letters = (SEQUENCES[name] for name in ("lstm", "lstm-lengths", "letters"))
    weights = 4 * 64 * (8 + 64)
    assert lstm.parameters == weights + 4 * 64 + 64 + 1
    assert lstm.flops == 32 * (3 * (2 * 30 * weights + 2 * 64) - 2 * 30 * 4 * 64 * 8)
    assert ragged.flops == pytest.approx(lstm.flops * ragged.lengths().mean() / 30)
    assert letters.flops == 3 * 50 * 64 * 2 * (2 * 4 * 128 * (128 + 128) + 128 * 65)


@pytest.mark.parametrize("name", SEQUENCES)
class TestTheSameNetworkOfSequences:
    @pytest.fixture
    def workload(self, name):
        return dataclasses.replace(SEQUENCES[name], batch=3, steps=1)

    @pytest.fixture
    def expected(self, workload):
        model = workload.model()
        return model.predict(workload.data()[0], mask=workload.mask())

    @staticmethod
    def check(workload, z, expected):
        if workload.loss == "softmax_cross_entropy":
            z = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)

    def test_in_pytorch(self, workload, expected):
        torch = pytest.importorskip("torch")
        from nbbp.bench.networks.torch_sequences import Network

        inputs = [workload.data()[0], *([workload.lengths()] if workload.ragged else [])]
        for padded in (False, True):
            module = Network(workload.layers, workload.shape[-1], workload.weights(), padded)
            with torch.inference_mode():
                self.check(workload, module(*map(torch.from_numpy, inputs)).numpy(), expected)

    def test_in_jax(self, workload, expected):
        pytest.importorskip("jax")
        from nbbp.bench.networks.jax_sequences import forward

        z = forward(workload.layers, workload.weights(), workload.data()[0], workload.mask())
        self.check(workload, np.asarray(z), expected)

    def test_is_trained(self, workload):
        peer.prepare_sequences(workload)()


@pytest.mark.parametrize("name", ["torch", "jax", "onnxruntime"])
def test_predictions_step_by_step(name):
    for module in ("onnx", name) if name == "onnxruntime" else (name,):
        pytest.importorskip(module)
    theirs, steps = (
        importlib.import_module(f"nbbp.bench.peers.{name}"),
        dataclasses.replace(STEPS["lstm-step"], steps=3),
    )
    expected = peer.prepare_steps(steps)().reshape(1)
    np.testing.assert_allclose(theirs.prepare_steps(steps)().reshape(1), expected, rtol=1e-4, atol=1e-6)


def test_each_product_of_a_layer_has_its_own_padding_and_packing():
    def kernels(layer: Network, rows: int) -> list[list[str]]:
        return [[call.kernel.name for call in (*p.once, *p.calls)] for p in products.programs(layer, rows)]

    forward, inputs, weights = kernels(*PRODUCTS["16 x 14x14x256, 3x3"])
    assert forward == ["pack_columns", "pad", "convolve"]
    assert inputs == ["pack_turned", "pad", "convolve"]
    assert weights == ["convolve_weights", "total_of_parts", "sum_parts", "total_of_parts"]
    forward, inputs, weights = kernels(*PRODUCTS["16 x 14x14x256, 1x1"])
    assert (forward, inputs) == (["pack_columns", "convolve"], ["pack_turned", "convolve"])
    assert kernels(*products.DENSE["64"]) == [["affine"], ["transpose", "affine"], ["product_of_transposed"]]


def test_each_product_of_a_layer_is_timed(monkeypatch):
    monkeypatch.setattr(products, "SECONDS", 0.002)
    share = products.measure(*PRODUCTS["16 x 14x14x256, 1x1"])
    assert all(0 < each < math.inf for each in (share.forward, share.input_gradient, share.weight_gradient))


def test_the_calls_of_a_profile_add_up_to_the_step(monkeypatch):
    monkeypatch.setattr(profile, "SECONDS", 0.05)  # enough epochs for one that nothing interrupts
    measured = profile.measure(WORKLOADS["toy"])
    names = [row.name for row in measured.rows]
    assert any(name.startswith("8 shards: affine 125x10 125x10") for name in names)
    assert names[-1] == "adam 121 121 121 121 8"
    total = sum(row.one_thread for row in measured.rows)
    assert measured.step_on_one_thread / 2 < total < 2 * measured.step_on_one_thread
    assert all(row.running >= 0 for row in measured.rows if "wait" not in row.name)
    assert all(row.repeated > 0 for row in measured.rows if "wait" not in row.name)


def test_commands_print_what_the_processor_allows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(profile, "SECONDS", 0.005)
    assert main(["bench", "profile", "xor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("adam 12 12 12 12 8") for line in lines)
    assert any(line.startswith("total") for line in lines)
    assert lines[-2].startswith("FMA peak ")
    assert main(["bench", "xor", "--peers", "nbbp", "--rounds", "1", "--json", str(tmp_path / "bench.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("FMA peak ") and "; core to core " in line for line in lines) == 1
    assert lines[-1].startswith("xor ")
    assert lines[-1].endswith("%")
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["limits"]["before"].keys() == written["limits"]["after"].keys() >= {"fma_peak", "core_to_core"}
    assert written["peers"][0]["roofline"]["products"] > 0
