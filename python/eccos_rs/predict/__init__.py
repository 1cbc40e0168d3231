"""Text to `Prediction`: the encoder, the heads, the neighbours and their blend.

Importing this package loads no inference runtime; making a predictor does.
"""

from eccos_rs.predict.protocol import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
