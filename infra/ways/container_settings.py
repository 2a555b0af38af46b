"""The settings of way `container`: each component's inputs, checked together before the first
exists.

`sixways:container` holds them under the components' names; what one component makes for another is
filled in here. Images and bundles go to `registry`; on AWS (`eks`) without one, to ECR and S3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi

from settings import ModelSettings, Settings
from sixways.checks import InputsRefused
from sixways.container import bundle_image, image, model_deployment
from sixways_bundle import Problem
from ways.fields import in_python, located

_PARTS = ("name", "registry", "image", "bundles", "store", "eks", "deployment", "tags", "dev")
_MAPPINGS = ("registry", "image", "bundles", "store", "eks", "deployment", "tags")
_REGISTRY = ("address", "username")
_HERE = "sixways:container"
_ADDRESS = "HOST/PATH: ghcr.io/shop"
_EXAMPLE = "see infra/stacks/container.yaml for an example"
# What the stack itself gives to each part.
_FILLED_IN = {
    "image": ("repository", "username", "password", "load"),
    "store": ("bundles",),
    "eks": ("bundle_readers",),
    "deployment": ("image", "models", "api_key"),
}
_FROM = {"bundles": "sixways:models", "bundle_readers": "store", "image": f"{_HERE}.image",
         "models": "sixways:models", "api_key": "sixways:apiKey", "load": "sixways:way local",
         "password": "sixways:registryPassword"}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """The bundles' bucket; outputs, which are not known before the update."""

    bucket_arn: pulumi.Output[str]
    kms_key_arn: pulumi.Output[str]


class Parts:
    """The components' inputs, from the stack's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._own: dict[str, Any] = in_python(settings.own)

    @property
    def name(self) -> str:
        """What the deployment is called, and its namespace where none is named."""
        return str(self._own.get("name", "sixways"))

    @property
    def on_aws(self) -> bool:
        """Whether image and bundles go to ECR and S3."""
        return self.has("eks") and not self.has("registry")

    def has(self, part: str) -> bool:
        """Whether the settings name that part."""
        return part in self._own

    def bundled(self, model: str) -> bool:
        """Whether an image of the model's bundle exists already."""
        return model in self._own.get("bundles", {})

    def image(self) -> Any:
        """Inputs of the server's image: a `ServerImage` on AWS, else a `ContainerImage`."""
        own = self._own.get("image", {})
        if self.on_aws:
            return {**self._shared(), **own}
        if "image_uri" in own or not self.has("registry"):
            return own
        return {**own, **self._registry("sixways-server")}

    def store(self, bundles: dict[str, tuple[Any, Any]]) -> Any:
        """Inputs of the store; `bundles` has path and digest by name."""
        return {
            **self._shared(), **self._own.get("store", {}),
            "bundles": [{"name": name, "path": path, "digest": digest}
                        for name, (path, digest) in bundles.items()],
        }  # fmt: skip

    def bundle(self, path: Any, digest: Any) -> Any:
        """Inputs of one bundle's image."""
        platforms = self._own.get("image", {}).get("platforms")
        nodes = {} if platforms is None else {"platforms": platforms}
        return {**nodes, **self._registry("sixways-bundles"), "path": path, "digest": digest}

    def eks(self, stored: Stored | None) -> Any:
        """Inputs of the cluster; the deployment's pods may read the bundles."""
        own = {**self._shared(), **self._own["eks"]}
        if stored is None:
            return own
        namespace = self._own.get("deployment", {}).get("namespace", self.name)
        reader = {"namespace": namespace, "service_account": self.name,
                  "bucket_arn": stored.bucket_arn, "kms_key_arn": stored.kms_key_arn}  # fmt: skip
        return {**own, "bundle_readers": [reader]}

    def deployment(
        self,
        image_uri: pulumi.Output[str],
        digests: dict[str, pulumi.Output[str]],
        sources: dict[str, dict[str, Any]],
        kubeconfig: pulumi.Output[str] | None,
    ) -> Any:
        """Inputs of the deployment; `sources` says by name where each bundle is."""
        models = [self._served(model, digests[model.name], sources[model.name])
                  for model in self._settings.models]  # fmt: skip
        key = self._settings.api_key
        return {
            **({} if key is None else {"api_key": key}),
            **({} if kubeconfig is None else {"kubeconfig": kubeconfig}),
            **self._own.get("deployment", {}), "image": image_uri, "models": models,
        }  # fmt: skip

    def source(self, model: str, image_uri: pulumi.Output[str] | None) -> dict[str, Any]:
        """Where a bundle is: the image given for it, or the one that was made."""
        return {"image": self._own["bundles"][model] if image_uri is None else image_uri}

    @staticmethod
    def _served(model: ModelSettings, digest: Any, source: dict[str, Any]) -> dict[str, Any]:
        served = {"name": model.name, "digest": digest, **source}
        return served if model.variant == "auto" else {**served, "variant": model.variant}

    def _shared(self) -> dict[str, Any]:
        return {key: self._own[key] for key in ("tags", "dev") if key in self._own}

    def _registry(self, name: str) -> dict[str, Any]:
        registry = self._own["registry"]
        password = self._settings.registry_password
        found = {"repository": f"{registry.get('address', '')}/{name}"}
        if "username" in registry:
            found["username"] = registry["username"]
        return found if password is None else {**found, "password": password}

    def refuse(self) -> None:
        """Asks every component what it thinks of its inputs, before the first one exists.

        Raises:
            InputsRefused: something is wrong; carries every problem.
        """
        found = [
            Problem(f"{_HERE}.{key}", key, ", ".join(_PARTS), "correct or remove it")
            for key in sorted(set(self._own) - set(_PARTS))
        ]
        found += [
            Problem(f"{_HERE}.{key}", str(self._own[key]), "a mapping", _EXAMPLE)
            for key in _MAPPINGS
            if key in self._own and not isinstance(self._own[key], dict)
        ]
        if not found and self.has("registry") and not self._own["registry"].get("address"):
            found.append(Problem(f"{_HERE}.registry.address", "", _ADDRESS, "add it"))
        if not found:
            found = [*self._misplaced(), *self._refused_by_components()]
        if found:
            raise InputsRefused(f"the settings of stack {pulumi.get_stack()}", found)

    def _misplaced(self) -> list[Problem]:
        found = []
        for part, fields in _FILLED_IN.items():
            for field in fields:
                if field in self._own.get(part, {}):
                    where = _FROM.get(field, f"{_HERE}.registry")
                    found += located(f"{_HERE}.{part}", [
                        Problem(field, "given", f"what follows from {where}",
                                f"set {where}, and remove it here")])  # fmt: skip
        names = [model.name for model in self._settings.models]
        found += [
            Problem(f"{_HERE}.bundles.{name}", name, ", ".join(names),
                    "name one of sixways:models")
            for name in self._own.get("bundles", {}) if name not in names
        ]  # fmt: skip
        if self.has("registry"):
            found += [
                Problem(f"{_HERE}.registry.{key}", key, ", ".join(_REGISTRY),
                        "correct or remove it")
                for key in self._own["registry"] if key not in _REGISTRY
            ]  # fmt: skip
        elif self._settings.registry_password is not None:
            found.append(Problem("sixways:registryPassword", "given", "no password without "
                                 f"{_HERE}.registry", "add it, or remove this"))  # fmt: skip
        if not self.has("eks"):
            found += [
                Problem(f"{_HERE}.{key}", "given", f"nothing without {_HERE}.eks",
                        "remove it, or let the stack make the cluster")
                for key in ("store", "tags", "dev") if self.has(key)
            ]  # fmt: skip
        else:
            if self.has("registry") and self.has("store"):
                found.append(Problem(f"{_HERE}.store", "given", f"nothing beside {_HERE}.registry",
                                     "remove one of them: bundles are in one place"))  # fmt: skip
            if "kubeconfig" in self._own.get("deployment", {}):
                found.append(Problem(f"{_HERE}.deployment.kubeconfig", "given", "nothing beside "
                                     f"{_HERE}.eks", "remove one of them"))  # fmt: skip
        return found

    def _refused_by_components(self) -> list[Problem]:
        # Outputs are passed over by every check; these stand for what nobody has made yet.
        later: pulumi.Output[Any] = pulumi.Output.from_input("")
        names = [model.name for model in self._settings.models]
        found, sources = [], {}
        for name in names:
            sources[name] = {"image": later}
            if self.bundled(name):
                sources[name] = self.source(name, None)
            elif self.has("registry"):
                found += self._in_image(bundle_image.problems(name, self.bundle(later, later)))
            elif not self.on_aws:
                found.append(Problem(f"{_HERE}.bundles.{name}", "", "REPOSITORY@sha256:… of an "
                                     "image that holds the bundle's files",
                                     f"add it, or {_HERE}.registry to push one to"))  # fmt: skip
        if not self.on_aws:
            found += self._in_image(image.problems("server", self.image()))
        if self.has("eks"):
            found += self._refused_on_aws([n for n in names if not self.bundled(n)])
        args = self.deployment(
            later, dict.fromkeys(names, later), sources, later if self.has("eks") else None
        )
        found += self._in_deployment(model_deployment.problems(self.name, args))
        # Image and bundles share a registry, and both say what is wrong with it.
        return list(dict.fromkeys(found))

    def _refused_on_aws(self, to_store: list[str]) -> list[Problem]:
        # Pulumi's AWS SDK is needed for `eks` alone.
        from sixways.cloud import bundle_store, server_image
        from sixways.container import eks_cluster

        later: pulumi.Output[Any] = pulumi.Output.from_input("")
        found, stored = [], None
        if self.on_aws:
            found += located(f"{_HERE}.image", server_image.problems("server", self.image()))
            if to_store:
                stored = Stored(later, later)
                args = self.store(dict.fromkeys(to_store, (later, later)))
                found += located(f"{_HERE}.store", bundle_store.problems("models", args))
        args = self.eks(stored)
        return [*found, *located(f"{_HERE}.eks", eks_cluster.problems("cluster", args))]

    def _in_image(self, problems: list[Problem]) -> list[Problem]:
        own = self._own.get("image", {})
        found = []
        for one in problems:
            if one.field == "repository" and not self.has("registry"):
                found.append(Problem(f"{_HERE}.registry", "", "registry, or image.imageUri and "
                                     "bundles", "say where the image is pushed to"))  # fmt: skip
            elif one.field == "password":
                fix = "pulumi config set --secret sixways:registryPassword"
                found.append(Problem("sixways:registryPassword", "", one.accepted, fix))
            elif one.field == "repository" and "repository" not in own:
                address = str(self._own["registry"]["address"])
                found.append(Problem(f"{_HERE}.registry.address", address, _ADDRESS, one.fix))
            elif one.field == "username" and "username" not in own:
                found += located(f"{_HERE}.registry", [one])
            else:
                found += located(f"{_HERE}.image", [one])
        return found

    def _in_deployment(self, problems: list[Problem]) -> list[Problem]:
        found = []
        for one in problems:
            model = one.field.partition(".")[0]
            if one.field == "name":
                found += located(_HERE, [one])
            elif model.startswith("models[") and one.field.endswith(".image"):
                name = self._settings.models[int(model[7:-1])].name
                found.append(Problem(f"{_HERE}.bundles.{name}", one.value, one.accepted, one.fix))
            else:
                found += located(f"{_HERE}.deployment", [one])
        return found
