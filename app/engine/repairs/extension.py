"""What `worker_extension_cls` names on CPUs: importing it is what repairs."""

from app.engine.repairs import base_rows, seeded_prefill


class WorkerExtension:
    """Adds nothing to vLLM's worker; says what was repaired in its process."""

    repairs = (base_rows, seeded_prefill)
