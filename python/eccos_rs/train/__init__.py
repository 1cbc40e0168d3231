"""Labelled data to a bundle: the only place that knows torch.

Importing this package loads neither torch nor scikit-learn; training does.
"""

from eccos_rs.train.options import TrainOptions

__all__ = ["TrainOptions"]
