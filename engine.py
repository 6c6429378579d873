"""``engine.Predictor`` for programs that run in the repository's folder. The package itself is ``ziggurat.engine``."""

from ziggurat.engine import Predictor

__all__ = ["Predictor"]
