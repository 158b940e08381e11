"""Whether an adapter's files fit the served model, told before the engine sees them.

The engine would find most of it too, but later, with its own memory at stake, and as a failure of
its own.
"""

from collections.abc import Mapping
from pathlib import Path

from app.adapters.config import AdapterConfig, read_config
from app.adapters.source import CONFIG_FILE, WEIGHTS_FILE
from app.adapters.weights import Factors, read_changes
from app.engine.base import EXPERTS, Layer
from app.errors import AdapterConflict, AdapterUnusable

LAYERS = "layers."


def check_adapter(folder: Path, layers: Mapping[str, Layer], max_rank: int) -> int:
    """Check both files, and return the largest rank; empty `layers` means that none are known.

    Raises AdapterUnusable, and AdapterConflict if it was made for another base model.
    """
    config = read_config(folder / CONFIG_FILE, max_rank)
    changes = read_changes(folder / WEIGHTS_FILE)
    # Checkpoints stack the experts of mixtures in several ways, so their shapes are vLLM's matter.
    plain = {module: pair for module, pair in changes.items() if EXPERTS not in module}
    check_ranks(plain, config)
    if layers:
        check_modules(changes, layers, config)
        check_shapes(plain, layers, config)
    return max(config.ranks)


def check_ranks(changes: Mapping[str, Factors], config: AdapterConfig) -> None:
    """Both factors have a configured rank. Raises AdapterUnusable."""
    for module, factors in changes.items():
        if len(factors.a) != 2 or len(factors.b) != 2 or factors.a[0] != factors.b[1]:
            raise AdapterUnusable(f"The factors of {module[:200]!r} do not fit each other.")
        if factors.a[0] not in config.ranks:
            raise AdapterUnusable(
                f"{module[:200]!r} has rank {factors.a[0]}, but {CONFIG_FILE} says {config.r}."
            )


def check_modules(
    changes: Mapping[str, Factors], layers: Mapping[str, Layer], config: AdapterConfig
) -> None:
    """What it changes is in the model. Raises AdapterUnusable and AdapterConflict."""
    unknown = [module for module in changes if not found(module, layers)]
    if len(unknown) == len(changes):
        raise AdapterUnusable("None of the modules that the adapter changes are in this model.")
    if unknown:
        raise AdapterConflict(f"Made for {base(config)}: this model has no {unknown[0][:200]!r}.")


def check_shapes(
    changes: Mapping[str, Factors], layers: Mapping[str, Layer], config: AdapterConfig
) -> None:
    """Raises AdapterConflict."""
    for module, factors in changes.items():
        wanted = Layer(factors.a[1], factors.b[0])
        candidates = found(module, layers)
        if wanted not in candidates:
            layer = candidates[0]
            raise AdapterConflict(
                f"Made for {base(config)}: {module[:200]!r} is {layer.num_inputs} x "
                f"{layer.num_outputs} here, {wanted.num_inputs} x {wanted.num_outputs} in the "
                "adapter."
            )


def found(module: str, layers: Mapping[str, Layer]) -> list[Layer]:
    """The layers that a name may mean.

    Vision models have put their text part elsewhere from release to release, and adapters keep
    the older names: there the end of the name decides.
    """
    if EXPERTS in module:
        module = module[: module.index(EXPERTS) + len(EXPERTS)]
    if module in layers:
        return [layers[module]]
    end = LAYERS + module.rpartition(LAYERS)[2]
    return [layer for name, layer in layers.items() if LAYERS in module and name.endswith(end)]


def base(config: AdapterConfig) -> str:
    return (config.base_model_name_or_path or "another model")[:200]
