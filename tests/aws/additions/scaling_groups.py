"""What moto does not know of auto scaling groups.

It keeps neither the warm-up of a group nor whether a policy is enabled, which would be a change in
every update, and it has no instance refresh. A moto that learns one of these keeps its own.
"""

from __future__ import annotations

import contextlib
from typing import Any


def _add() -> None:
    from moto.autoscaling.models import FakeAutoScalingGroup, FakeScalingPolicy
    from moto.autoscaling.responses import AutoScalingResponse as Service
    from moto.core.responses import ActionResult

    refreshes: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def keeping_warmup(call: Any) -> Any:
        def wrapped(self: Any) -> Any:
            answer = call(self)
            warmup = self._get_int_param("DefaultInstanceWarmup")
            if warmup is not None:
                group = self.autoscaling_backend.autoscaling_groups[
                    self._get_param("AutoScalingGroupName")
                ]
                group.default_instance_warmup = warmup
            return answer

        return wrapped

    def of_group(self: Any) -> list[dict[str, Any]]:
        key = (self.current_account, self._get_param("AutoScalingGroupName"))
        return refreshes.setdefault(key, [])

    def start_instance_refresh(self: Any) -> Any:
        found = of_group(self)
        number = f"00000000-0000-0000-0000-{len(found) + 1:012}"
        found.insert(
            0,
            {
                "InstanceRefreshId": number,
                "AutoScalingGroupName": self._get_param("AutoScalingGroupName"),
                "Status": "Successful",
                "PercentageComplete": 100,
                "Preferences": self._get_params().get("Preferences", {}),
            },
        )
        return ActionResult({"InstanceRefreshId": number})

    def describe_instance_refreshes(self: Any) -> Any:
        return ActionResult({"InstanceRefreshes": of_group(self)})

    if not hasattr(FakeAutoScalingGroup, "default_instance_warmup"):
        for name in ("create_auto_scaling_group", "update_auto_scaling_group"):
            setattr(Service, name, keeping_warmup(getattr(Service, name)))
    if not hasattr(FakeScalingPolicy, "enabled"):
        FakeScalingPolicy.enabled = True
        before = FakeScalingPolicy.__init__

        def without_empty_parts(self: Any, *given: Any, **named: Any) -> None:
            before(self, *given, **named)
            self.predictive_scaling_configuration = self.predictive_scaling_configuration or None

        FakeScalingPolicy.__init__ = without_empty_parts
    for action in (start_instance_refresh, describe_instance_refreshes):
        if not hasattr(Service, action.__name__):
            setattr(Service, action.__name__, action)


# Without moto it is not the interpreter that the server runs in.
with contextlib.suppress(ImportError):
    _add()
