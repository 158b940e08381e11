"""How far a training is in, its learning rate out. Knows nothing of what is learned."""

import math
from typing import Final

from torch.optim import Optimizer

WARMUP: Final = 0.03
"""Share of a training in which the rate rises."""


def set_rate(optimizer: Optimizer, peak: float, progress: float) -> None:
    """Warm up to `peak`, then fall to nothing along a cosine; `progress` runs from 0 to 1.

    A group of parameters with a `share` gets that much of it.
    """
    warmth = min(1.0, progress / WARMUP)
    rate = peak * warmth * (1 + math.cos(math.pi * progress)) / 2
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)
