"""Fits the server to what it may use: processors and memory of its cgroup, not of the host.

Libraries count the processors of the machine when they are imported, and some keep a thread for
each. One place tells them all, before the first of them is imported; the processes that decode
inherit it. What a user has set in the environment stays.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import msgspec

from sixways_bundle.runtime.base import usable_threads
from sixways_bundle.runtime.llm import default_cache_gb
from sixways_server.config import ServerConfig

_PER_MODEL = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
"""Pools that compute or tokenize."""
_IDLE = ("OPENBLAS_NUM_THREADS", "TF_NUM_INTEROP_THREADS")
"""Pools that nothing here needs: numpy only stacks rows, and models run one batch at a time."""


def fit(config: ServerConfig) -> ServerConfig:
    """The configuration of one worker; call it before any engine is imported.

    `threads` stays None where neither a quota nor other workers leave less than the processors
    that this process may run on: engines see those by themselves, and know which of them share a
    core.
    """
    usable = usable_threads(None)
    share = config.threads or max(1, usable // config.workers)
    for name in _PER_MODEL:
        os.environ.setdefault(name, str(share))
    for name in _IDLE:
        os.environ.setdefault(name, "1")
    threads, cache_gb = config.threads, config.cache_gb
    if share < len(os.sched_getaffinity(0)):
        threads = share
    if cache_gb is None and config.workers > 1:
        cache_gb = default_cache_gb() / config.workers
    return msgspec.structs.replace(config, threads=threads, cache_gb=cache_gb)


def limit_default_executor(loop: asyncio.AbstractEventLoop) -> None:
    """As asyncio's own pool of threads, but counting the processors that may be used."""
    most = min(32, usable_threads(None) + 4)
    loop.set_default_executor(ThreadPoolExecutor(most, thread_name_prefix="asyncio"))
