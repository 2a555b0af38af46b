"""The tags of a budget, which moto does not keep: each update would give it them anew."""

from __future__ import annotations

import json
from typing import Any

from moto.budgets.responses import BudgetsResponse

_tags: dict[tuple[str, str], dict[str, str]] = {}
_create = BudgetsResponse.create_budget


def _of(self: Any, arn: str) -> dict[str, str]:
    return _tags.setdefault((self.current_account, arn), {})


def _create_budget(self: Any) -> str:
    answer = _create(self)
    account, name = self._get_param("AccountId"), self._get_param("Budget")["BudgetName"]
    _of(self, f"arn:aws:budgets::{account}:budget/{name}").update(
        {tag["Key"]: tag["Value"] for tag in self._get_param("ResourceTags") or []}
    )
    return answer


def _list_tags_for_resource(self: Any) -> str:
    found = _of(self, self._get_param("ResourceARN"))
    return json.dumps({"ResourceTags": [{"Key": k, "Value": v} for k, v in found.items()]})


def _tag_resource(self: Any) -> str:
    new = {tag["Key"]: tag["Value"] for tag in self._get_param("ResourceTags")}
    _of(self, self._get_param("ResourceARN")).update(new)
    return "{}"


def _untag_resource(self: Any) -> str:
    for key in self._get_param("ResourceTagKeys"):
        _of(self, self._get_param("ResourceARN")).pop(key, None)
    return "{}"


# A moto that learns this keeps its own.
if not hasattr(BudgetsResponse, "list_tags_for_resource"):
    BudgetsResponse.create_budget = _create_budget  # type: ignore[method-assign]
    BudgetsResponse.list_tags_for_resource = _list_tags_for_resource
    BudgetsResponse.tag_resource = _tag_resource
    BudgetsResponse.untag_resource = _untag_resource
