from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app.engine.devices import GPUCollector, register_gpus

TWO_GPUS = SimpleNamespace(
    nvmlDeviceGetCount=lambda: 2,
    nvmlDeviceGetHandleByIndex=lambda index: index,
    nvmlDeviceGetName=lambda device: f"H{device}",
    nvmlDeviceGetMemoryInfo=lambda device: SimpleNamespace(used=10 + device, total=100),
    nvmlDeviceGetUtilizationRates=lambda device: utilization(device),
    NVMLError=OSError,
)


def utilization(device: int) -> SimpleNamespace:
    if device == 1:
        raise OSError("not supported on a slice")
    return SimpleNamespace(gpu=50)


def test_each_gpu_has_its_gauges() -> None:
    registry = CollectorRegistry()
    registry.register(GPUCollector(TWO_GPUS))

    text = generate_latest(registry).decode()

    assert 'slipstream_gpu_memory_used_bytes{gpu="1",name="H1"} 11.0' in text
    assert 'slipstream_gpu_memory_bytes{gpu="0",name="H0"} 100.0' in text
    assert 'slipstream_gpu_utilization_ratio{gpu="0",name="H0"} 0.5' in text


@pytest.mark.gpu
def test_real_gpus_are_read() -> None:
    registry = CollectorRegistry()
    register_gpus(registry)

    assert 'slipstream_gpu_memory_bytes{gpu="0"' in generate_latest(registry).decode()
