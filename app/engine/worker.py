"""What vLLM's workers are made to load of ours: `worker_extension_cls` names the class below."""

from vllm.platforms import current_platform

from app.engine.custom_models import register_custom_models

register_custom_models()
if current_platform.is_cpu():
    from app.engine.repairs import base_rows, seeded_prefill

    REPAIRS = (base_rows, seeded_prefill)


class WorkerExtension:
    """Adds nothing to vLLM's worker: importing its module is what matters."""
