"""The console: one page without any foreign content, and the figures it shows.

Both are open, as health and metrics are: they hold figures and names, never content or keys.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sixways_server import sixways_version
from sixways_server.routing import Routes

if TYPE_CHECKING:
    from sixways_server.metrics import Metrics
    from sixways_server.registry import Registry

PAGE = Path(__file__).parent / "static" / "console.html"
_INLINE = re.compile(rb"<(script|style)\b[^>]*>(.*?)</\1>", re.DOTALL | re.IGNORECASE)


def install(routes: Routes, registry: Registry, metrics: Metrics, *, page: bool) -> None:
    """Adds the page at `/` and `/console.json`, its figures; without `page`, neither."""
    if not page:
        return

    @routes.get("/console.json", tags=["Server"])
    async def data(request: Request) -> Response:
        """Models, uptime, rates and latencies of the last 1 and 5 minutes."""
        # With several workers it reads the files of all of them.
        content = await asyncio.to_thread(snapshot, registry, metrics)
        return Response(
            msgspec.json.encode(content),
            headers={"cache-control": "no-store"},
            media_type="application/json",
        )

    if not PAGE.is_file():
        return
    content = PAGE.read_bytes()
    headers = {
        "cache-control": "no-store",
        "content-security-policy": content_security_policy(content),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }

    @routes.get("/", include_in_schema=False)
    async def console(request: Request) -> Response:
        return Response(content, headers=headers, media_type="text/html")


def snapshot(registry: Registry, metrics: Metrics) -> dict[str, Any]:
    """What the page shows: figures of all workers; which models are ready, of this one."""
    loaded = {engine.info.name: engine for engine in registry.engines}
    depths = metrics.queue_depths()
    models: list[dict[str, Any]] = []
    for name in registry.names:
        engine = loaded.get(name)
        if engine is None:
            models.append({"name": name, "ready": False})
            continue
        info = engine.info
        models.append(
            {
                "name": name,
                "ready": engine.ready,
                "task": info.task,
                "digest": info.digest,
                "variant": info.variant,
                "engine": info.engine,
                "max_tokens": info.max_tokens,
                "dimensions": info.dimensions,
                "queue_depth": depths.get(name, 0),
                "details": info.details,
            }
        )
    state = "draining" if registry.draining else "ready" if registry.ready else "loading"
    return {
        "version": sixways_version(),
        "state": state,
        "workers": metrics.workers,
        "started_at": metrics.started,
        "uptime_seconds": round(time.time() - metrics.started, 3),
        "in_flight": metrics.in_flight,
        "models": models,
        "windows": {
            "1m": asdict(metrics.rolling.window(60)),
            "5m": asdict(metrics.rolling.window(300)),
        },
    }


def content_security_policy(page: bytes) -> str:
    """Lets the page run its own inline script and style, named by their hashes, and fetch from
    this server; nothing else."""
    hashes: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, content in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode("ascii")
        hashes[kind.lower()].append(f"'sha256-{digest}'")
    return "; ".join(
        [
            "default-src 'none'",
            "script-src " + (" ".join(hashes[b"script"]) or "'none'"),
            "style-src " + (" ".join(hashes[b"style"]) or "'none'"),
            "connect-src 'self'",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
