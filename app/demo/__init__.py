"""The embedded demonstration models and adapters: where they lie and what they are called.

They are small enough to travel inside the package, so a first run needs no GPU and no download.
`slipstream-demo` knows the answers of `corpus/` by heart, and its adapters change how it says
them (`train.py`, `adapters/train.py`); `slipstream-demo-vision` names the colour and the shape of
what is drawn on a picture (`vision/train.py`).
"""

from pathlib import Path
from typing import Final

DEMO_PATH: Final = Path(__file__).parent
DEMO_MODEL_PATH: Final = DEMO_PATH / "model"
DEMO_MODEL_NAME: Final = "slipstream-demo"
DEMO_VISION_PATH: Final = DEMO_PATH / "vision" / "model"
DEMO_VISION_NAME: Final = "slipstream-demo-vision"
DEMO_ADAPTERS_PATH: Final = DEMO_PATH / "adapters"
"""Holds one folder an adapter of `slipstream-demo`."""

DEMO_MODELS: Final = {
    "demo": (DEMO_MODEL_NAME, DEMO_MODEL_PATH),
    "demo-vision": (DEMO_VISION_NAME, DEMO_VISION_PATH),
}
"""What the setting `model` calls them: name and folder."""
