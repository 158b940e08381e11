"""The embedded demonstration model: where it lies and what it is called.

It is small enough to travel inside the package and knows the answers of `corpus/` by heart,
so a first run needs no GPU and no download. `train.py` says how it was made.
"""

from pathlib import Path
from typing import Final

DEMO_MODEL_PATH: Final = Path(__file__).parent / "model"
DEMO_MODEL_NAME: Final = "slipstream-demo"
