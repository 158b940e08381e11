"""Repairs of vLLM 0.32 on CPUs: importing a module in a worker process is what repairs."""
