"""System metrics have the names of MLflow's page, and count from one call to the next."""

from __future__ import annotations

import torch

from cocktail.tracking.system_metrics import SystemMetrics


def test_a_processor_that_works_is_seen_to_and_memory_that_is_taken():
    system = SystemMetrics(torch.device("cpu"))
    before = system.now()
    kept = torch.rand(64, 1024, 1024)
    for _ in range(4):
        kept[:4].sort()
    after = system.now()
    assert before.keys() == after.keys()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= after.keys()
    assert 0 < after["system/cpu_utilization_percentage"] <= 100
    assert 0 < after["system/system_memory_usage_percentage"] < 100
    grown = after["system/process_memory_usage_megabytes"] - before["system/process_memory_usage_megabytes"]
    assert grown > 200, "64 M values of four bytes were kept"
