"""The settings of way `cloud`: each component's inputs, checked together before the first exists.

`sixways:cloud` holds them under the components' names; what one component makes for another is
filled in here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pulumi

from settings import Settings
from sixways.checks import InputsRefused
from sixways.cloud import budget, bundle_store, monitoring, server_image
from sixways.cloud.ec2 import problems as ec2
from sixways.cloud.sagemaker import checks as sagemaker
from sixways.cloud.sagemaker.defaults import SHARED
from sixways.cloud.sagemaker.modes import REAL_TIME, SERVERLESS, TO_ZERO
from sixways_bundle import Problem
from ways.cloud_inputs import in_settings, read

# What the stack takes from the endpoint's settings, where it was checked.
_OF_ENDPOINT = tuple(
    f"sixways:cloud.monitoring.{field}"
    for field in ("endpointName", "variants", "mode", "instanceType")
)


@dataclass(frozen=True)
class Made:
    """What one component makes for the next; outputs, which are not known before the update."""

    image_uri: pulumi.Output[str]
    uris: pulumi.Output[dict[str, str]]
    archive_uris: pulumi.Output[dict[str, str]]
    digests: pulumi.Output[dict[str, str]]
    kms_key_arn: pulumi.Output[str]


class Parts:
    """The components' inputs, from the stack's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._read = read(settings.own)
        self._own = self._read.own

    @property
    def is_sagemaker(self) -> bool:
        """Whether the endpoint is SageMaker's."""
        return self.has("sagemaker")

    def has(self, part: str) -> bool:
        """Whether the settings name that part."""
        return part in self._own

    def own(self, part: str) -> Any:
        """A component's inputs as they stand in the settings, with what all parts share."""
        shared = {key: self._own[key] for key in ("tags", "dev") if key in self._own}
        if part in ("monitoring", "budget"):
            shared.pop("dev", None)
        return {**shared, **self._own.get(part, {})}

    def store(self, bundles: dict[str, tuple[Any, Any]]) -> Any:
        """Inputs of the store; `bundles` has path and digest by name."""
        archive = self._own.get("sagemaker", {}).get("mode") == SERVERLESS
        return {
            **self.own("store"),
            "bundles": [
                {"name": name, "path": path, "digest": digest, "archive": archive}
                for name, (path, digest) in bundles.items()
            ],
        }

    def sagemaker(self, made: Made) -> Any:
        """Inputs of the SageMaker endpoint; each variant names its model."""
        own = self.own("sagemaker")
        first = self._settings.models[0].name
        uris = made.archive_uris if own.get("mode") == SERVERLESS else made.uris
        variants = [
            {
                **{key: value for key, value in variant.items() if key != "model"},
                "bundle": self._served(variant.get("model", first), uris, made),
            }
            for variant in own.get("variants", [{}])
        ]
        return {**self._slo(), **own, "image_uri": made.image_uri, "variants": variants}

    def _served(self, model: str, uris: pulumi.Output[dict[str, str]], made: Made) -> Any:
        served = {
            "name": model,
            "uri": uris.apply(lambda by_name: by_name.get(model, "")),
            "digest": made.digests.apply(lambda by_name: by_name.get(model, "")),
            "kms_key_arn": made.kms_key_arn,
        }
        known = {m.name: m.variant for m in self._settings.models}.get(model, "auto")
        return served if known == "auto" else {**served, "variant": known}

    def ec2(self, made: Made) -> Any:
        """Inputs of the EC2 endpoint, which serves every model."""
        models = []
        for model in self._settings.models:
            served = self._served(model.name, made.uris, made)
            entry = {
                "name": model.name,
                "bundle_uri": served["uri"],
                "bundle_digest": served["digest"],
            }
            models.append(entry | {k: v for k, v in served.items() if k == "variant"})
        key = self._settings.api_key
        given = {} if key is None else {"api_key": key}
        return {
            **self.own("ec2"), **given, "models": models, "bundle_kms_key_arn": made.kms_key_arn,
        }  # fmt: skip

    def watch(self, **endpoint: Any) -> Any:
        """Inputs of what watches the endpoint."""
        own = {**self._slo(), **self.own("monitoring"), **endpoint}
        if not self.is_sagemaker:
            return {**own, "instance_type": self._own.get("ec2", {}).get("instance_type")}
        sagemaker_own = self._own["sagemaker"]
        mode = sagemaker_own.get("mode", REAL_TIME)
        variants = [
            {"name": variant.get("name", "main")}
            | {k: v for k, v in variant.items() if k == "instance_type"}
            for variant in sagemaker_own.get("variants", [{}])
            if not variant.get("shadow")
        ]
        if mode == TO_ZERO:  # whose variants share the instances of one
            variants = [{**variants[0], "name": SHARED}] if variants else []
        return {**own, "mode": mode, "variants": variants}

    def _slo(self) -> dict[str, Any]:
        return {"slo": self._own["slo"]} if "slo" in self._own else {}

    def refuse(self) -> None:
        """Asks every component what it thinks of its inputs, before the first one exists.

        Raises:
            InputsRefused: something is wrong; carries every problem.
        """
        found = [*self._read.unknown, *self._read.misfits]
        if self.has("sagemaker") == self.has("ec2"):
            both = self.has("ec2")
            found.append(Problem("sixways:cloud", "sagemaker and ec2" if both else "",
                                 "either sagemaker or ec2", "remove one of the two" if both else
                                 "see infra/stacks/cloud.yaml for an example"))  # fmt: skip
        elif not self._read.misfits:
            found += self._refused_by_components()
        if found:
            raise InputsRefused(f"the settings of stack {pulumi.get_stack()}", found)

    def _refused_by_components(self) -> list[Problem]:
        # Outputs are passed over by every check; these stand for what nobody has made yet.
        later: pulumi.Output[Any] = pulumi.Output.from_input("")
        by_name: pulumi.Output[Any] = pulumi.Output.from_input({})
        made = Made(later, by_name, by_name, by_name, later)
        bundles = {model.name: (later, later) for model in self._settings.models}
        found = _in("store", bundle_store.problems("models", self.store(bundles)))
        if self.is_sagemaker:
            found += _in("image", server_image.problems("server", self.own("image")))
            found += _in("sagemaker", sagemaker.problems("endpoint", self.sagemaker(made)))
            found += self._unknown_models()
            watched = self.watch(endpoint_name=later)
        else:
            if self.has("image"):
                found.append(Problem("sixways:cloud.image", "image", "no image beside ec2",
                                     "remove it: the machines install the package"))  # fmt: skip
            found += _in("ec2", ec2.problems("endpoint", self.ec2(made)))
            watched = self.watch(
                load_balancer_arn_suffix=later,
                target_group_arn_suffix=later,
                autoscaling_group_name=later,
            )
        # What the endpoint's settings decide was told there.
        found += [problem for problem in _in("monitoring", monitoring.problems("watch", watched))
                  if not problem.field.startswith(_OF_ENDPOINT)]  # fmt: skip
        if self.has("budget"):
            found += _in("budget", budget.problems("budget", self.own("budget")))
        # The objective stands once, and both who use it say what is wrong with it.
        return list(dict.fromkeys(found))

    def _unknown_models(self) -> Iterable[Problem]:
        names = [model.name for model in self._settings.models]
        for index, variant in enumerate(self._own["sagemaker"].get("variants", [])):
            if variant.get("model", names[0]) not in names:
                yield Problem(f"sixways:cloud.sagemaker.variants[{index}].model",
                              str(variant["model"]), ", ".join(names),
                              "name one of sixways:models")  # fmt: skip


def _in(part: str, problems: Iterable[Problem]) -> list[Problem]:
    """The problems under the names that the settings have."""

    def named(field: str) -> str:
        return field if ":" in field or field.startswith("slo.") else f"{part}.{field}"

    return [in_settings(replace(problem, field=named(problem.field))) for problem in problems]
