"""What a machine does while a run trains, under the names by which MLflow's page shows system metrics."""

from __future__ import annotations

import importlib.util

import psutil
import torch

PREFIX = "system/"
_MEGABYTE = 1e6


class SystemMetrics:
    """Use of this node's cores, memory and network, and of a process's GPU, since the last call.

    The node is that of the training's first process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        psutil.cpu_percent()  # counts from here on
        self._network = psutil.net_io_counters()
        self._reads_gpu = device.type == "cuda" and importlib.util.find_spec("pynvml") is not None

    def now(self) -> dict[str, float]:
        """Values by name: shares in percent, memory and traffic in megabytes."""
        memory, network = psutil.virtual_memory(), psutil.net_io_counters()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MEGABYTE,
            "system_memory_usage_percentage": memory.used / memory.total * 100,
            "process_memory_usage_megabytes": psutil.Process().memory_info().rss / _MEGABYTE,
        }
        if network is not None and self._network is not None:  # None where there is no network
            values["network_receive_megabytes"] = (network.bytes_recv - self._network.bytes_recv) / _MEGABYTE
            values["network_transmit_megabytes"] = (network.bytes_sent - self._network.bytes_sent) / _MEGABYTE
            self._network = network
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            values["gpu_0_memory_usage_megabytes"] = (total - free) / _MEGABYTE
            values["gpu_0_memory_usage_percentage"] = (total - free) / total * 100
        if self._reads_gpu:
            values["gpu_0_utilization_percentage"] = float(torch.cuda.utilization(self._device))
        return {f"{PREFIX}{name}": value for name, value in values.items()}
