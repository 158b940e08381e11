"""`/docs`: the API page, with its script and style from an installed package instead of a CDN."""

from pathlib import Path

import swagger_ui
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.router import Router
from litestar.static_files import create_static_files_router

from app import __version__

ASSETS = "/docs/assets"


def api_document() -> OpenAPIConfig:
    """The OpenAPI document at `/docs/openapi.json` and its page at `/docs`."""
    page = SwaggerRenderPlugin(
        js_url=f"{ASSETS}/swagger-ui-bundle.js",
        css_url=f"{ASSETS}/swagger-ui.css",
        standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
        path="/",
        favicon="<link rel='icon' href='data:,'>",
    )
    return OpenAPIConfig(
        title="Slipstream",
        version=__version__,
        path="/docs",
        render_plugins=[page, JsonRenderPlugin(path="/openapi.json")],
    )


def api_assets() -> Router:
    """The page's files."""
    folder = Path(swagger_ui.__file__).parent / "static"
    return create_static_files_router(ASSETS, directories=[folder], include_in_schema=False)
