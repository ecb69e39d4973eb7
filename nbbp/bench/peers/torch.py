"""PyTorch, eager, on all threads: no DataLoader, fused Adam."""

from nbbp.bench.workloads import Workload

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
