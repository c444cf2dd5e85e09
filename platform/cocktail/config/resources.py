"""Resources that a run takes: processes, GPUs, disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cocktail.types import require


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources that a run takes. They change nothing but rounding, batch statistics and, with a GPU, the precision."""

    num_workers: int = 1
    """Training processes; with GPUs, one GPU each."""
    min_workers: int | None = None
    """Fewest training processes to go on with when nodes are lost, until they come back; None waits for num_workers."""
    compile: bool = False
    """Compile the network (torch.compile): minutes at the start, then faster steps on a GPU. Random numbers stay those
    of a network that is not compiled."""
    cpus_per_worker: float = 0.5
    """CPUs that Ray reserves for each training process; the rest of the cluster's feed it."""
    keep_memory: bool = True
    """On CPUs, keep memory that a step frees for the next one, instead of giving it back to the system and being given
    it anew, page by page: a paper's network takes a fifth less time, and an eighth more memory at its peak, a small
    one as much as before (docs/training.md). It is glibc that is told."""
    gpu: Literal["auto", "yes", "no"] = "auto"
    """Whether to train and test on GPUs; auto does if the cluster has one."""
    executor: Literal["auto", "ray", "inline"] = "auto"
    """Place where mixtures are rendered: a Ray Data pipeline (on any node), or inline, the training process itself.
    auto is inline on GPUs, of which a core feeds several with sound, but for pictures where other nodes have cores to
    decode them; on CPUs ray, but for trials of a sweep that share a node, whose cores are busy without it."""
    prefetch_batches: int = 2
    """Batches rendered ahead of the step that uses them."""
    cache_gb: float = 50.0
    """Disk space on each node for shards of an object store, in GB."""
    cache_folder: str | None = None
    """Folder of these shards, and of what a node's processes share of manifests; None is COCKTAIL_CACHE, or a folder
    among the node's temporary files."""
    max_failures: int = 3
    """Times that training goes on by itself from the last checkpoint after a worker has died."""

    def chosen_executor(
        self, *, gpus: bool, pictures: bool, cores_elsewhere: bool, shares_node: bool
    ) -> Literal["ray", "inline"]:
        """executor, or what auto stands for, of a training on GPUs or not, on mixtures with pictures or not.
        `cores_elsewhere` is whether nodes without a GPU have cores, or may come to have; `shares_node`, whether other
        trials of a sweep are on the same node."""
        if self.executor != "auto":
            return self.executor
        if not gpus:
            return "inline" if shares_node else "ray"
        return "ray" if pictures and cores_elsewhere else "inline"

    @property
    def fewest_workers(self) -> int:
        """min_workers, or what it stands for."""
        return self.num_workers if self.min_workers is None else self.min_workers

    @property
    def is_elastic(self) -> bool:
        """Whether training goes on with fewer processes than num_workers."""
        return self.fewest_workers < self.num_workers

    def __post_init__(self) -> None:
        require(self.num_workers >= 1, f"num_workers must be at least 1, not {self.num_workers}")
        require(
            self.min_workers is None or 1 <= self.min_workers <= self.num_workers,
            f"min_workers must be from 1 to num_workers {self.num_workers}, not {self.min_workers}",
        )
        require(self.cpus_per_worker > 0, f"cpus_per_worker must be positive, not {self.cpus_per_worker}")
        require(self.prefetch_batches >= 1, f"prefetch_batches must be at least 1, not {self.prefetch_batches}")
        require(self.cache_gb > 0, f"cache_gb must be positive, not {self.cache_gb}")
        require(self.max_failures >= 0, f"max_failures must not be negative, not {self.max_failures}")
