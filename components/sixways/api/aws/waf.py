"""The web ACL in front of a REST API.

Sources: AWS's pages "Rate-based rule statement" and "Baseline rule groups". Rules that look for
code in a body only count here: a prompt may hold any text, and be longer than the 8 KB that the
common rules allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

REQUESTS_PER_ADDRESS = 2_000
WINDOW_SECONDS = 300
_COUNTED = (
    "SizeRestrictions_BODY",
    "CrossSiteScripting_BODY",
    "EC2MetaDataSSRF_BODY",
    "GenericLFI_BODY",
    "GenericRFI_BODY",
)
_MANAGED = (
    ("AWSManagedRulesAmazonIpReputationList", ()),
    ("AWSManagedRulesCommonRuleSet", _COUNTED),
    ("AWSManagedRulesKnownBadInputsRuleSet", ("JavaDeserializationRCE_BODY", "Log4JRCE_BODY")),
)


def rules(waf: Mapping[str, Any]) -> Any:
    """The ACL's rules, in the order in which they are asked; see `WafArgs`."""
    found: list[dict[str, Any]] = [
        {
            "name": "rate",
            "action": {"block": {}},
            "statement": {
                "rate_based_statement": {
                    "limit": waf.get("requests_per_address", REQUESTS_PER_ADDRESS),
                    "aggregate_key_type": "IP",
                    "evaluation_window_sec": waf.get("window_seconds", WINDOW_SECONDS),
                }
            },
        }
    ]
    if waf.get("managed_rules", True):
        found += [
            {
                "name": group,
                "override_action": {"none": {}},
                "statement": {
                    "managed_rule_group_statement": {
                        "name": group,
                        "vendor_name": "AWS",
                        "rule_action_overrides": [
                            {"name": rule, "action_to_use": {"count": {}}} for rule in counted
                        ],
                    }
                },
            }
            for group, counted in _MANAGED
        ]
    return [
        {**rule, "priority": priority, "visibility_config": _seen(rule["name"])}
        for priority, rule in enumerate(found)
    ]


def create_web_acl(
    name: str,
    waf: Mapping[str, Any],
    stage_arn: pulumi.Input[str],
    tags: Mapping[str, pulumi.Input[str]],
    opts: pulumi.ResourceOptions,
) -> pulumi.Output[str]:
    """The ACL, in front of the stage; returns its ARN."""
    arn: pulumi.Output[str]
    if "web_acl_arn" in waf:
        arn = pulumi.Output.from_input(waf["web_acl_arn"])
    else:
        arn = aws.wafv2.WebAcl(
            f"{name}-waf",
            scope="REGIONAL",
            description="Sixways API",
            default_action={"allow": {}},
            rules=rules(waf),
            visibility_config=_seen(name),
            tags=dict(tags),
            opts=opts,
        ).arn
    aws.wafv2.WebAclAssociation(f"{name}-waf", resource_arn=stage_arn, web_acl_arn=arn, opts=opts)
    return arn


def _seen(metric: str) -> Any:
    # Samples would hold headers of requests, and so keys.
    return {
        "metric_name": metric,
        "cloudwatch_metrics_enabled": True,
        "sampled_requests_enabled": False,
    }
