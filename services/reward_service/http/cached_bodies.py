"""Bodies of replies that change seldom: each is made once for a state, and sent without copies."""

from collections.abc import Callable, Hashable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from reward_service.admission.transfer import send_response


class CachedBodies:
    """Bodies by name, each with the state that it was made for."""

    def __init__(self) -> None:
        self._bodies: dict[Hashable, tuple[object, bytes]] = {}

    def get(self, name: Hashable, state: object, make: Callable[[], bytes]) -> bytes:
        """The body `name`, made again if `state` is another one. A request must not choose `name` freely."""
        found = self._bodies.get(name)
        if found is None or found[0] != state:
            found = self._bodies[name] = state, make()
        return found[1]


class LargeResponse(Response):
    """A response that is sent in pieces, so that little of it is buffered for a client that does not read."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - of ASGI
        await send_response(self, send)
