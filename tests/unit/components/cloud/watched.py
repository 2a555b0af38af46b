"""Endpoints of every kind, for the tests of what watches them."""

from __future__ import annotations

from sixways.cloud.alarms import (
    AGENT,
    Ec2Target,
    Limits,
    SageMakerTarget,
    Section,
    ec2_sections,
    sagemaker_sections,
)
from sixways.observability.cloudwatch import AlarmSpec
from sixways.observability.slo import Slo

CPU, GPU = "ml.c6i.xlarge", "ml.g4dn.12xlarge"
PRICES = {CPU: 0.24, GPU: 5.0, "g5.xlarge": 1.006}
DEAR = Limits(cost_per_thousand_usd=2)


def sagemaker(mode: str = "realtime", limits: Limits = DEAR) -> list[Section]:
    """Two variants, the second with four GPUs; a serverless one has no instances."""
    variants = {"cpu": CPU, "gpu": GPU} if mode != "serverless" else {"cpu": ""}
    return sagemaker_sections(SageMakerTarget("shop", variants, mode), Slo(), limits, PRICES)


def ec2(agent: str = AGENT, limits: Limits = DEAR) -> list[Section]:
    """One GPU behind a load balancer."""
    target = Ec2Target("app/shop/1", "targetgroup/shop/2", "shop", "g5.xlarge", agent)
    return ec2_sections(target, Slo(), limits, PRICES)


EVERY = {
    "realtime": sagemaker(),
    "async": sagemaker("async"),
    "serverless": sagemaker("serverless"),
    "ec2": ec2(),
    "ec2 without agent": ec2(agent="", limits=Limits()),
}


def alarms(sections: list[Section]) -> list[AlarmSpec]:
    return [spec for section in sections for spec in section.alarms]


def keys(sections: list[Section]) -> dict[str, list[str]]:
    return {section.name: [spec.key for spec in section.alarms] for section in sections}
