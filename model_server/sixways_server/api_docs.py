"""The OpenAPI document as a page, `/docs`: Swagger UI, without anything from elsewhere.

Script and style come from the package `fastapi-offline`, which carries a release of Swagger UI; of
that package only these files are read. The page needs a key, as the document does: a gateway that
sends one of its own can open both. Links are relative, so that they hold below a prefix.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from sixways_server.routing import Routes

_PACKAGE = "fastapi_offline"
_FILES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sixways API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
});
"""
_HEADERS = {
    "cache-control": "no-store",
    # Swagger UI sets styles of elements; its icons are data.
    "content-security-policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_KEPT = {"cache-control": "private, max-age=86400", "x-content-type-options": "nosniff"}


def install(routes: Routes) -> None:
    """Adds `/docs` and its files; nothing where the package is not installed."""
    # Looked for, not imported: it would import FastAPI, which takes long.
    found = find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        return
    static = Path(found.submodule_search_locations[0]) / "static"

    @routes.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return Response(_PAGE, headers=_HEADERS, media_type="text/html")

    @routes.get("/docs/start.js", include_in_schema=False)
    async def start(request: Request) -> Response:
        return Response(_START, headers=_KEPT, media_type="text/javascript")

    for name, kind in _FILES.items():
        _add(routes, static / name, kind)


def _add(routes: Routes, path: Path, kind: str) -> None:
    @routes.get(f"/docs/{path.name}", include_in_schema=False)
    async def file(request: Request) -> Response:
        content = await asyncio.to_thread(path.read_bytes)
        return Response(content, headers=_KEPT, media_type=kind)
