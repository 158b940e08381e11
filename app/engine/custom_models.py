"""Model classes of one's own: the function `register` of a module, called where vLLM looks.

vLLM knows models by process, and looks their classes up in two: where the engine is configured,
and in its workers. Entry points of `vllm.general_plugins` work without any of this. Does not know
what the module registers.
"""

import importlib
import os

from app.engine.environment import MODEL_MODULE
from app.errors import EngineDead


def register_custom_models() -> None:
    """Call the module's `register`, if there is a module; calling it twice does no harm.

    Raises EngineDead with one sentence if there is no such module or it has no such function.
    """
    name = os.environ.get(MODEL_MODULE)
    if not name:
        return
    try:
        register = importlib.import_module(name).register
    except ImportError as error:
        raise EngineDead(f"The model module {name} cannot be imported: {error}.") from error
    except AttributeError as error:
        raise EngineDead(f"The model module {name} has no function `register`.") from error
    register()
