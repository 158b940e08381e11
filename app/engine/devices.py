"""GPU memory and load, read from NVIDIA's management library when metrics are scraped."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

LABELS = ("gpu", "name")


class GPUCollector(Collector):
    """Every GPU of this machine; `nvml` is the module `pynvml`, already initialised."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    def collect(self) -> Iterator[Metric]:
        nvml = self._nvml
        used = GaugeMetricFamily(
            "slipstream_gpu_memory_used_bytes", "GPU memory in use.", None, LABELS
        )
        total = GaugeMetricFamily("slipstream_gpu_memory_bytes", "GPU memory.", None, LABELS)
        load = GaugeMetricFamily(
            "slipstream_gpu_utilization_ratio", "Share of time a kernel was running.", None, LABELS
        )
        for index in range(nvml.nvmlDeviceGetCount()):
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            labels = (str(index), nvml.nvmlDeviceGetName(device))
            # A slice of a GPU has no utilisation; the other readings must not suffer for it.
            with suppress(nvml.NVMLError):
                memory = nvml.nvmlDeviceGetMemoryInfo(device)
                used.add_metric(labels, memory.used)
                total.add_metric(labels, memory.total)
                load.add_metric(labels, nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100)
        yield from (used, total, load)


@cache
def register_gpus(registry: CollectorRegistry) -> None:
    """Show the GPUs of this machine, once; without NVIDIA's library there are none."""
    import pynvml  # comes with the CUDA build of vLLM

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        logger.warning("no GPU metrics: %s", error)
    else:
        registry.register(GPUCollector(pynvml))
