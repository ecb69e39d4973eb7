"""The names of Keras, PyTorch and scikit-learn for what nbbp has: hints in errors, never accepted as names."""

SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "loss": {
        "softmax_cross_entropy": (
            "categorical_crossentropy", "sparse_categorical_crossentropy", "CrossEntropyLoss", "NLLLoss", "log_loss",
        ),
        "binary_cross_entropy": ("binary_crossentropy", "BCELoss", "BCEWithLogitsLoss", "BCE", "bce_with_logits"),
        "mse": ("mean_squared_error", "squared_error", "MSELoss", "L2Loss"),
        "mae": ("mean_absolute_error", "absolute_error", "L1Loss"),
        "huber": ("HuberLoss", "SmoothL1Loss"),
        "poisson": ("PoissonNLLLoss",),
        "pinball": ("quantile", "quantile_loss", "mean_pinball_loss", "pinball_loss"),
    },
    "activation": {
        "linear": ("identity", "none"),
        "sigmoid": ("logistic", "expit"),
        "leaky_relu": ("LReLU",),
        "silu": ("swish",),
        "exponential": ("exp",),
    },
    "optimizer": {"sgd": ("momentum", "nesterov", "gradient_descent")},
    "initializer": {
        "zeros": ("zero",),
        "ones": ("one",),
        "normal": ("random_normal", "truncated_normal", "trunc_normal_", "gaussian"),
        "uniform": ("random_uniform",),
        "glorot_uniform": ("xavier_uniform_", "xavier", "glorot"),
        "glorot_normal": ("xavier_normal_",),
        "he_uniform": ("kaiming_uniform_",),
        "he_normal": ("kaiming_normal_", "kaiming", "he"),
        "lecun_normal": ("lecun",),
    },
    "metric": {
        "accuracy": (
            "acc", "accuracy_score", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy",
        ),
        "top_k_accuracy": (
            "top_k_accuracy_score", "top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy",
        ),
        "precision": ("precision_score",),
        "recall": ("recall_score", "sensitivity"),
        "f1": ("f1_score",),
        "roc_auc": ("AUC", "AUROC", "roc_auc_score"),
        "mae": ("mean_absolute_error", "neg_mean_absolute_error"),
        "mse": ("mean_squared_error", "neg_mean_squared_error"),
        "rmse": ("root_mean_squared_error", "neg_root_mean_squared_error"),
        "r2": ("r2_score",),
        "pinball": ("mean_pinball_loss", "quantile_loss"),
        "coverage": ("picp",),
    },
}  # fmt: skip
"""Other programs' names by kind and nbbp's name; case and underscores make no difference."""


def synonym(kind: str, name: str) -> str | None:
    """nbbp's name for what is called `name` elsewhere, or None if it is unknown."""
    for own, others in SYNONYMS.get(kind, {}).items():
        if _plain(name) in map(_plain, others):
            return own
    return None


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
