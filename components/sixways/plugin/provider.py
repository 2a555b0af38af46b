"""Hands each call of the engine to the resource it is about."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import TypeVar

from pulumi.provider.experimental import provider as p

from sixways.plugin import hosts
from sixways.plugin.api_key import ApiKeyResource
from sixways.plugin.bundle import BundleResource
from sixways.plugin.bundle_upload import BundleUploadResource
from sixways.plugin.certificate import SelfSignedCertificateResource
from sixways.plugin.host import HostResource
from sixways.plugin.local_endpoint import LocalEndpointResource
from sixways.plugin.monitoring import MonitoringResource
from sixways.plugin.nginx_process import NginxProcessResource
from sixways.plugin.release import ReleaseResource
from sixways.plugin.resource import Call, PartlyMade, Resource, Severity
from sixways.plugin.site import SiteResource
from sixways.plugin.values import plain, wrap
from sixways_bundle import BundleError, Problem

T = TypeVar("T")
Log = Callable[[str, Severity, str, bool], None]
"""URN, severity, message, ephemeral."""

RESOURCES: tuple[type[Resource], ...] = (
    ApiKeyResource,
    BundleResource,
    BundleUploadResource,
    HostResource,
    LocalEndpointResource,
    NginxProcessResource,
    MonitoringResource,
    ReleaseResource,
    SelfSignedCertificateResource,
    SiteResource,
)


class SixwaysProvider(p.Provider):
    """The provider behind `pulumi-resource-sixways`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._cancelled = threading.Event()
        self._resources = {resource.token: resource() for resource in RESOURCES}

    async def get_schema(self, request: p.GetSchemaRequest) -> p.GetSchemaResponse:
        """The tokens that this plugin serves."""
        resources: dict[str, dict[str, object]] = {token: {} for token in self._resources}
        return p.GetSchemaResponse(json.dumps({"name": "sixways", "resources": resources}))

    async def check_config(self, request: p.CheckRequest) -> p.CheckResponse:
        """The plugin has no settings. What stands under `sixways:` is the program's."""
        return p.CheckResponse(inputs={})

    async def diff_config(self, request: p.DiffRequest) -> p.DiffResponse:
        """Nothing to differ."""
        return p.DiffResponse(changes=False)

    async def check(self, request: p.CheckRequest) -> p.CheckResponse:
        """Fills in defaults and reports every bad input at once."""
        resource, call = self._resource(request.urn)
        given = request.new_inputs
        inputs, problems = await self._run(lambda: resource.check(call, plain(given)))
        secrets = {name for name, value in given.items() if value.contains_secret()}
        return p.CheckResponse(
            inputs=wrap(inputs, secrets | resource.secrets),
            failures=[_failure(problem) for problem in problems],
        )

    async def diff(self, request: p.DiffRequest) -> p.DiffResponse:
        """Says what an update would do, field by field."""
        resource, call = self._resource(request.urn)
        state, inputs = plain(request.old_state), plain(request.new_inputs)
        for name in request.ignore_changes:
            if name in state:
                inputs[name] = state[name]
        changes = await self._run(lambda: resource.diff(call, state, inputs))
        update, replace = p.PropertyDiffKind.UPDATE, p.PropertyDiffKind.UPDATE_REPLACE
        detailed = {name: p.PropertyDiff(update, name in inputs) for name in changes.update}
        detailed |= {name: p.PropertyDiff(replace, name in inputs) for name in changes.replace}
        return p.DiffResponse(
            changes=bool(changes),
            replaces=list(changes.replace),
            delete_before_replace=resource.delete_before_replace,
            diffs=list(detailed),
            detailed_diff=detailed,
        )

    async def create(self, request: p.CreateRequest) -> p.CreateResponse:
        """Makes the resource."""
        resource, call = self._resource(request.urn)
        inputs = plain(request.properties)
        try:
            made, outputs = await self._run(
                lambda: resource.create(call, inputs, preview=request.preview)
            )
        except PartlyMade as error:
            error.properties = wrap(error.outputs, resource.secrets)
            raise
        return p.CreateResponse(
            resource_id="" if request.preview else made, properties=wrap(outputs, resource.secrets)
        )

    async def read(self, request: p.ReadRequest) -> p.ReadResponse:
        """Looks at the resource as it really is."""
        resource, call = self._resource(request.urn)
        state = plain(request.properties)
        found = await self._run(lambda: resource.read(call, request.resource_id, state))
        if found is None:
            return p.ReadResponse(resource_id="")
        return p.ReadResponse(request.resource_id, wrap(found, resource.secrets), request.inputs)

    async def update(self, request: p.UpdateRequest) -> p.UpdateResponse:
        """Changes the resource in place."""
        resource, call = self._resource(request.urn)
        state, inputs = plain(request.olds), plain(request.news)
        for name in request.ignore_changes:
            if name in state:
                inputs[name] = state[name]
        outputs = await self._run(
            lambda: resource.update(call, state, inputs, preview=request.preview)
        )
        return p.UpdateResponse(wrap(outputs, resource.secrets))

    async def delete(self, request: p.DeleteRequest) -> None:
        """Takes the resource away."""
        resource, call = self._resource(request.urn)
        state = plain(request.properties)
        await self._run(lambda: resource.delete(call, request.resource_id, state))

    async def cancel(self) -> None:
        """Ends what is being built or started."""
        self._cancelled.set()

    def _resource(self, urn: str) -> tuple[Resource, Call]:
        token = urn.split("::")[-2].rsplit("$", 1)[-1]
        if token not in self._resources:
            raise BundleError(
                "this version of sixways has no such resource",
                [Problem("type", token, ", ".join(self._resources), "upgrade sixways")],
            )
        if token.startswith("sixways:server:"):
            hosts.load()
        call = Call(
            urn,
            lambda severity, message, ephemeral: self._log(urn, severity, message, ephemeral),
            self._cancelled,
        )
        return self._resources[token], call

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)


def _failure(problem: Problem) -> p.CheckFailure:
    return p.CheckFailure(problem.field, str(problem).removeprefix(f"{problem.field}: "))
