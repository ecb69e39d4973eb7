"""PyTorch, eager, on all threads: no DataLoader, fused Adam."""

from nbbp.bench.workloads import Prediction, Workload

ACTIVATIONS = {"relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid"}


def prepare(workload: Workload, threads: int | None = None, compile: bool = False):
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for n_in, n_out in zip(workload.sizes, workload.sizes[1:], strict=False):
        layers += [torch.nn.Linear(n_in, n_out), getattr(torch.nn, ACTIVATIONS[workload.activation])()]
    network = torch.nn.Sequential(*layers[:-1])
    loss_of = torch.nn.MSELoss() if workload.loss == "mse" else torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    x, y = (torch.from_numpy(array) for array in workload.data())

    def forward(rows):
        return loss_of(network(x[rows]), y[rows])

    if compile:
        forward = torch.compile(forward)

    def epoch() -> None:
        for rows in torch.randperm(workload.rows).split(workload.batch):
            optimizer.zero_grad(set_to_none=True)
            forward(rows).backward()
            optimizer.step()

    return epoch


def prepare_prediction(prediction: Prediction, threads: int | None = None):
    import torch

    if threads:
        torch.set_num_threads(threads)
    hidden, last = torch.nn.Linear(784, 128), torch.nn.Linear(128, 10)
    network = torch.nn.Sequential(hidden, torch.nn.ReLU(), last)
    with torch.no_grad():
        for layer, (w, b) in zip((hidden, last), prediction.weights(), strict=True):
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
    x = prediction.data()

    def predict():
        with torch.inference_mode():
            return network(torch.from_numpy(x)).softmax(1).numpy()

    return predict
