"""/docs: the API's documentation as a page, whose scripts and styles this service serves itself."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, Response

router = APIRouter(include_in_schema=False)

ASSETS = Path(str(files("fastapi_offline"))) / "static"
"""Swagger UI as that package brings it."""
KINDS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing comes from elsewhere, and nothing that stands in the page itself is run."""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>audit-service</title>
<link rel="icon" href="docs/favicon.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<script src="docs/swagger-ui-bundle.js" defer></script>
<script src="docs/start.js" defer></script>
</head>
<body><div id="documentation"></div></body>
</html>
"""
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#documentation",
  deepLinking: true,
  docExpansion: "none",
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
"""Without a validator: the page would show it the document."""


@router.get("/docs")
def show_documentation() -> HTMLResponse:
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


@router.get("/docs/start.js")
def start_documentation() -> Response:
    return Response(START, media_type="text/javascript")


@router.get("/docs/{name}")
def get_documentation_asset(name: str) -> FileResponse:
    if name not in KINDS:
        raise HTTPException(404)
    return FileResponse(ASSETS / name, media_type=KINDS[name], headers={"Cache-Control": "public, max-age=3600"})
