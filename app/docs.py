"""`/docs`: the API page, with its script and style from an installed package instead of a CDN."""

from pathlib import Path

import swagger_ui
from litestar import get
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.params import FromPath
from litestar.response import File

from app import __version__
from app.openapi import DocumentConfig

FOLDER = Path(swagger_ui.__file__).parent / "static"
SCRIPT, STYLE, PRESET = ASSETS = (
    "swagger-ui-bundle.js",
    "swagger-ui.css",
    "swagger-ui-standalone-preset.js",
)


def api_document() -> OpenAPIConfig:
    """The OpenAPI document at `/docs/openapi.json` and its page at `/docs`."""
    page = SwaggerRenderPlugin(
        js_url=f"/docs/assets/{SCRIPT}",
        css_url=f"/docs/assets/{STYLE}",
        standalone_preset_js_url=f"/docs/assets/{PRESET}",
        path="/",
        favicon="<link rel='icon' href='data:,'>",
    )
    return DocumentConfig(
        title="Slipstream",
        version=__version__,
        path="/docs",
        render_plugins=[page, JsonRenderPlugin(path="/openapi.json")],
    )


@get("/docs/assets/{name:str}", include_in_schema=False)
async def read_api_asset(name: FromPath[str]) -> File:
    """One of the page's files, by its name among them: no client's path reaches the file system.

    Raises NotFoundException.
    """
    if name not in ASSETS:
        raise NotFoundException
    return File(FOLDER / name, filename=name, content_disposition_type="inline")
