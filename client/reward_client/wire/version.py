"""The version of the wire format, and what may change without a new one.

Compatibility policy:

- Requests are strict. A field that the service does not know is a 422 that names the field, so a typing error
  never changes a reward. A new request field is optional and does not change the version.
- Replies are tolerant. A client ignores fields, features and flags that it does not know, so the service may add
  them without a new version. `errors` of a problem document follow the same rule.
- Removing or renaming a field, changing its type, unit or meaning, and adding a value to a closed set
  (`query_type`, `on_item_error`) need a new version. The service answers clients of the previous version in that
  version for at least one minor release.
- Every request of this client carries `Glassbox-Wire-Version`. A service that knows only older versions answers in
  its newest one; `wire_version` in `GET /info` is that version.

Versions:

    1   release 0.1. Its client rejected unknown fields in replies and sent no version header. The service
        recognises it (see `reward_service.http.wire_version`) and leaves out everything added since.
    2   release 0.2. Replies are tolerant; `features` of a result may hold any feature name; `GET /info` has
        `wire_version`, `features` and `constants` of recipes.
"""

from __future__ import annotations

WIRE_VERSION = 2
"""The version that this package speaks."""

WIRE_VERSION_HEADER = "Glassbox-Wire-Version"
"""Request header with the client's version, a positive integer."""
