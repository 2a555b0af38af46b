"""Which alarms an endpoint has, and the value above which each of them fires."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sixways.cloud.alarms import Graph, Limits, SageMakerTarget, Section, sagemaker_sections
from sixways.observability.cloudwatch import RUNBOOK, AlarmSpec, alarm_description
from sixways.observability.slo import Slo
from tests.unit.components.cloud.watched import CPU, EVERY, alarms, ec2, keys, sagemaker
from tests.unit.components.observability.metric_math import names, value

_SPECS = [
    pytest.param(spec, id=f"{kind} {section.name} {spec.key}")
    for kind, sections in EVERY.items()
    for section in sections
    for spec in section.alarms
]
_ROOT = Path(__file__).parents[4]


def one(sections: list[Section], key: str, variant: str = "") -> AlarmSpec:
    (found,) = (spec for s in sections if s.name == variant for spec in s.alarms if spec.key == key)
    return found


def test_each_kind_of_endpoint_has_the_alarms_that_its_metrics_allow() -> None:
    basic = ["latency", "errors", "throttles"]
    rest = ["memory", "disk"]
    assert keys(sagemaker()) == {
        "": ["cost"],
        "cpu": [*basic, "cpu", *rest],
        "gpu": [*basic, "cpu", "gpu", *rest],
    }
    assert keys(sagemaker("async")) == {
        "": ["backlog", "cost"],
        "cpu": [*basic, "lost", "cpu", *rest],
        "gpu": [*basic, "lost", "cpu", "gpu", *rest],
    }
    assert keys(sagemaker("serverless")) == {"": [], "cpu": [*basic, "memory"]}
    assert keys(ec2()) == {"": [*basic, "cpu", "unhealthy", *rest, "gpu", "cost"]}
    assert keys(ec2(agent="")) == {"": [*basic, "cpu", "unhealthy", "cost"]}


def test_sagemakers_cpu_and_gpu_are_sums_over_cores_and_gpus() -> None:
    both = sagemaker(limits=Limits(cpu_percent=50, gpu_percent=90, memory_percent=80))
    assert one(both, "cpu", "cpu").threshold == 50 * 4
    assert one(both, "cpu", "gpu").threshold == 50 * 48
    assert one(both, "gpu", "gpu").threshold == 90 * 4
    assert one(both, "memory", "gpu").threshold == 80
    assert one(ec2(limits=Limits(cpu_percent=50)), "cpu").threshold == 50


def test_an_unknown_instance_type_has_no_cpu_alarm_rather_than_a_wrong_one() -> None:
    target = SageMakerTarget("shop", {"main": "ml.x9.large"})
    (_, main) = sagemaker_sections(target, Slo(), Limits(), {})
    assert "cpu" not in {spec.key for spec in main.alarms}


def test_a_cost_without_a_threshold_is_a_graph_and_without_a_price_nothing() -> None:
    whole, *_ = sagemaker(limits=Limits())
    assert [graph.title for graph in whole.graphs] == ["Cost of a thousand requests"]
    target = SageMakerTarget("shop", {"main": CPU})
    whole, *_ = sagemaker_sections(target, Slo(), Limits(cost_per_thousand_usd=1), {})
    assert (whole.alarms, whole.graphs) == ((), ())


def test_the_cost_of_a_thousand_requests_is_the_instances_hours_over_the_requests() -> None:
    cost = one(sagemaker(), "cost").expression
    # Two instances at 0.24 USD and one at 5 USD, for an hour; 1,370 requests each.
    hour = {"samples0": 120, "samples1": 60, "requests0": 1370, "requests1": 1370}
    assert value(cost, hour) == pytest.approx((2 * 0.24 + 5) / 2.74)
    # The second variant gets no request, and costs all the same.
    alone = {**hour, "requests0": 1000, "requests1": None}
    assert value(cost, alone) == pytest.approx(2 * 0.24 + 5)
    assert value(cost, dict.fromkeys(hour)) is None
    behind = one(ec2(), "cost").expression
    assert value(behind, {"requests": 503, "hosts": 2}) == pytest.approx(2 * 1.006 / 0.503)
    assert value(behind, {"requests": 0, "hosts": 2}) is None


def test_the_share_of_requests_that_are_turned_away() -> None:
    variant = one(sagemaker(), "throttles", "cpu").expression
    assert value(variant, {"requests": 200, "refused": 20}) == pytest.approx(0.1)
    assert value(variant, {"requests": 200, "refused": None}) == 0
    behind = one(ec2(), "throttles").expression
    # The load balancer does not count a connection that it has rejected as a request.
    assert value(behind, {"requests": 90, "refused": 5, "rejected": 10}) == pytest.approx(0.15)
    assert value(behind, {"requests": None, "refused": None, "rejected": 4}) == 1
    assert value(behind, {"requests": None, "refused": None, "rejected": None}) in (None, 0)


def test_one_lost_request_of_an_asynchronous_endpoint_fires() -> None:
    lost = one(sagemaker("async"), "lost", "cpu")
    ids = [metric.id for metric in lost.metrics]
    quiet: dict[str, float | None] = dict.fromkeys(ids)
    assert (value(lost.expression, quiet) or 0) <= lost.threshold
    for fails in ids:
        got = value(lost.expression, {**quiet, fails: 1})
        assert got is not None
        assert got > lost.threshold
    assert lost.datapoints_to_alarm == 1


@pytest.mark.parametrize("spec", _SPECS)
def test_an_alarm_can_be_made_of_every_spec(spec: AlarmSpec) -> None:
    ids = [metric.id for metric in spec.metrics]
    assert len(ids) == len(set(ids)) <= 10
    assert all(re.fullmatch("[a-z][a-zA-Z0-9_]*", one) for one in ids)
    assert names(spec.expression) == set(ids) if spec.expression else len(ids) == 1
    assert 1 <= spec.datapoints_to_alarm <= spec.evaluation_periods
    (period,) = {metric.period_s for metric in spec.metrics}
    # PutMetricAlarm: all datapoints within a day.
    assert period * spec.evaluation_periods <= 86_400
    assert spec.title
    assert spec.unit


@pytest.mark.parametrize("spec", _SPECS)
def test_an_alarm_says_what_it_means_and_what_to_do_first(spec: AlarmSpec) -> None:
    assert re.match(r"[A-Z][a-zA-Z ]+: .* First: ", spec.description)
    # CloudWatch takes 1024 characters.
    assert len(alarm_description(spec, "https://example.org/" + "x" * 200)) <= 1024


def test_every_alarm_has_its_section_in_the_runbook_and_every_section_its_alarm() -> None:
    text = (_ROOT / RUNBOOK).read_text("utf-8")
    # As GitHub makes anchors of headings.
    anchors = [
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^## (.+)$", text, re.MULTILINE)
    ]
    assert len(anchors) == len(set(anchors))
    specs = [spec for sections in EVERY.values() for spec in alarms(sections)]
    assert {spec.runbook for spec in specs} == set(anchors)
    for section in text.split("\n## ")[1:]:
        assert all(f"- **{part}**: " in section for part in ("Likely", "Look", "Do")), section


def test_a_graph_reads_each_of_its_metrics() -> None:
    graphs: list[Graph] = [g for kind in EVERY.values() for s in kind for g in s.graphs]
    assert graphs
    for graph in graphs:
        if graph.expression:
            assert names(graph.expression) == {metric.id for metric in graph.metrics}
