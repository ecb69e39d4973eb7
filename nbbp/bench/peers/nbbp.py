"""nbbp itself."""

from nbbp.bench.workloads import Workload


def prepare(workload: Workload, backend: str = "numba"):
    import nbbp
    from nbbp.training import Trainer

    hidden = [nbbp.Dense(units, activation=workload.activation) for units in workload.sizes[1:-1]]
    model = nbbp.Sequential(
        [*hidden, nbbp.Dense(workload.sizes[-1])], loss=workload.loss, optimizer=nbbp.Adam(), backend=backend
    )
    model.build(workload.sizes[0])
    x, target = model._checked("X", workload.data()[0], "y", workload.data()[1])
    trainer = Trainer(
        model.network, model.loss, model.optimizer, model._moments, x, target, workload.batch, backend, False
    )

    def epoch() -> None:
        trainer.train(model._shuffling.permutation(workload.rows), 0, lambda steps: None)

    return epoch
