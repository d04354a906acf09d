"""The client uses the proxy of the environment, except for this machine; `test_network` has the rules."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler

import pytest

from reward_client import RewardUnavailableError
from tests.unit.client_server import (
    NEVER,
    Ask,
    Served,
    answer,
    score_async_by_default_transport,
    score_by_default_transport,
    serving,
)

pytestmark = pytest.mark.slow
BOTH = pytest.mark.parametrize("ask", [score_by_default_transport, score_async_by_default_transport])


@BOTH
@pytest.mark.parametrize(("no_proxy", "by_proxy"), [("", True), ("example.test", False)])
def test_the_proxy_of_the_environment_is_used(
    ask: Ask, no_proxy: str, by_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answer) as proxy:
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, no_proxy)
        if by_proxy:
            assert ask("http://service.example.test").rewards == [0.5]
        else:
            with pytest.raises(RewardUnavailableError, match="ConnectError"):
                ask("http://service.example.test", retry=NEVER, connect_timeout_s=5.0)

    assert len(proxy.keys) == int(by_proxy)


def refuse(_: Served, handler: BaseHTTPRequestHandler, __: int) -> None:
    handler.send_error(403)


@BOTH
@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_service_on_this_machine_is_reached_without_the_proxy(
    ask: Ask, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(answer) as service, serving(refuse) as proxy:
        monkeypatch.setenv(variable, proxy.url)

        assert ask(service.url, api_key="secret").rewards == [0.5]
        assert ask(service.url.replace("127.0.0.1", "localhost")).rewards == [0.5]

    assert (proxy.connections, len(service.keys)) == (0, 2)
