"""GET /: a page that scores a prompt and a response and shows the features of the reward."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_HTML = (files("reward_service.http") / "page.html").read_text(encoding="utf-8")


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
    """A single file without external assets; the policy allows its script and style only."""
    return HTMLResponse(_HTML, headers=_HEADERS)
