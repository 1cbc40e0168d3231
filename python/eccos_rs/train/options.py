"""What can be chosen about training, with its defaults: the one place that states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eccos_rs.errors import InputError

__all__ = ["DISTILLED", "PUBLISHED", "TrainOptions"]

#: An encoder of our own, in the folder of its name among the shipped models; the published one's name.
DISTILLED, PUBLISHED = "minilm-4", "minilm-6"


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes
    ----------
    encoder : str
        ``minilm-4``, four layers that were taught to say what the published ones say; ``minilm-6``, the
        published encoder all-MiniLM-L6-v2; or a file that ``eccos distil`` made.
    head : {"mlp", "linear"}
        What reads the encoder.
    holdout : float
        Share of the queries, by text groups, that the validation figures come from; 0 for no figures.
    refit : bool
        Train again on all queries after the figures are known.
    epochs : int
        Passes over the data for the heads.
    folds, members : int
        The heads are an average over `members` seeds on each of `folds` parts left out in turn.
    hidden : int
        Width of one member of an MLP.
    dropout, learning_rate, weight_decay, batch : float or int
        Of the heads.
    teacher_share : float or "auto"
        How far a label moves towards what the other models' answers to the same query say of it: 0 keeps the
        labels as observed. ``auto`` chooses 0, 0.4 or 0.8 for each dataset by the cross-fitted loss on the
        observed labels.
    aux_weight : float
        Weight of an auxiliary model's loss against a model of the pool.
    kernel_share : float
        Of a kernel regression in the mean with an MLP; linear and fine-tuned heads go without.
    finetune : bool
        Train the upper layers of the encoder too.
    finetune_epochs, finetune_rate, frozen_layers : int, float, int
        Of the fine-tuning; the lowest `frozen_layers` layers stay as they are.
    max_tokens : int
        What the encoder reads of a query.
    check_rows : int
        Queries on which the graph's smaller variants are compared with float32 before they may ship.
    device : str
        Where torch computes: ``cpu`` or ``cuda``.
    seed : int
        Everything random follows from it.
    """

    encoder: str = DISTILLED
    head: str = "mlp"
    holdout: float = 0.15
    refit: bool = True
    epochs: int = 10
    folds: int = 5
    members: int = 1
    hidden: int = 320
    dropout: float = 0.6
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    batch: int = 128
    teacher_share: float | Literal["auto"] = "auto"
    aux_weight: float = 0.1
    kernel_share: float = 0.7
    finetune: bool = False
    finetune_epochs: int = 3
    finetune_rate: float = 1e-4
    frozen_layers: int = 2
    max_tokens: int = 256
    check_rows: int = 1500
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.head not in ("mlp", "linear"):
            raise InputError(f"head: got {self.head!r}, wanted 'mlp' or 'linear'")
        if not 0.0 <= self.holdout <= 0.5:
            raise InputError(f"holdout: got {self.holdout}, wanted 0 to 0.5")
        if self.holdout == 0.0 and not self.refit:
            raise InputError("holdout: got 0 together with refit=False, wanted at least one of the two")
        least = {
            "epochs": 1,
            "folds": 2,
            "members": 1,
            "hidden": 1,
            "batch": 2,
            "finetune_epochs": 1,
            "check_rows": 1,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"{name}: got {getattr(self, name)}, wanted {low} or more")
        share = self.teacher_share
        if share != "auto" and not (isinstance(share, int | float) and 0.0 <= share <= 1.0):
            raise InputError(f"teacher_share: got {share!r}, wanted 0 to 1, or 'auto'")
        if not 0.0 <= self.kernel_share <= 1.0:
            raise InputError(f"kernel_share: got {self.kernel_share}, wanted 0 to 1")
        if not 8 <= self.max_tokens <= 512:
            raise InputError(f"max_tokens: got {self.max_tokens}, wanted 8 to 512")
        if not 0 <= self.frozen_layers <= 6:
            raise InputError(f"frozen_layers: got {self.frozen_layers}, wanted 0 to 6")
