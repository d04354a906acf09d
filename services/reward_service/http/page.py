"""GET /: a page that scores one response or compares two, and shows the attribution of their rewards."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)


def _file(name: str) -> str:
    return (files("reward_service.http") / name).read_text(encoding="utf-8")


_SCRIPT = _file("page.js") + _file("page_results.js")
_HTML = _file("page.html").replace("<script></script>", f"<script>{_SCRIPT}</script>")


def _digest(tag: str) -> str:
    """Content-Security-Policy source of the page's only <tag>."""
    content = re.search(rf"<{tag}>(.*?)</{tag}>", _HTML, re.DOTALL)
    digest = hashlib.sha256(content[1].encode() if content else b"").digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; connect-src 'self'; script-src {_digest('script')}; style-src {_digest('style')}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}


@router.get("/", response_class=HTMLResponse)
async def page() -> HTMLResponse:
    """A single document without external assets; the policy allows its script and style only."""
    return HTMLResponse(_HTML, headers=_HEADERS)
