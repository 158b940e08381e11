"""Repairs of vLLM 0.32 on CPUs, made in its worker processes, which import `extension`."""
