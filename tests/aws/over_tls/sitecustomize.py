"""Loaded by the Python that runs the AWS server: every request counts as sent over TLS.

moto takes a condition that it does not know for met, so a bucket that refuses plain HTTP would
refuse everybody. The server does speak plain HTTP; what is tested is what runs over TLS.
"""

from __future__ import annotations

import contextlib
from typing import Any

_PLAIN_HTTP = {"Bool": {"aws:SecureTransport": "false"}}

with contextlib.suppress(ImportError):
    from moto.iam.access_control import IAMPolicyStatement, PermissionResult

    _decide = IAMPolicyStatement.is_action_permitted

    def _over_tls(self: Any, *arguments: Any, **named: Any) -> Any:
        if self._statement.get("Condition") == _PLAIN_HTTP:
            return PermissionResult.NEUTRAL
        return _decide(self, *arguments, **named)

    IAMPolicyStatement.is_action_permitted = _over_tls  # type: ignore[method-assign]
