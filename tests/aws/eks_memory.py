"""What moto lacks of EKS, added on the way to it.

moto 5.2 forgets a cluster's access and Auto Mode, and knows neither access entries nor Pod Identity
nor updates of a version. This proxy answers those itself and hands everything else on. Each request
is checked against botocore's description of EKS's API first, and what does not fit is refused as
AWS would; requests are kept, so that a test sees what AWS was told.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import ServiceModel, StructureShape
from botocore.validate import ParamValidator

from tests.aws.server import ACCOUNT, REGION

_Json = dict[str, Any]
_ARN = f"arn:aws:eks:{REGION}:{ACCOUNT}"
_CLUSTER = ("accessConfig", "computeConfig", "storageConfig", "upgradePolicy")
_OWN_HEADERS = {"connection", "content-length", "transfer-encoding", "server", "date"}
_MADE = 1_700_000_000.0


class _Absent(Exception):
    """The thing asked for is not there."""


@dataclass
class EksMemory:
    """EKS as a test sees it: what it was asked, and what moto does not hold."""

    url: str = ""
    calls: list[tuple[str, _Json]] = field(default_factory=list)
    entries: dict[tuple[str, str], _Json] = field(default_factory=dict)
    policies: dict[tuple[str, str], dict[str, _Json]] = field(default_factory=dict)
    identities: dict[tuple[str, str], _Json] = field(default_factory=dict)
    kept: dict[tuple[str, ...], _Json] = field(default_factory=dict)

    def asked(self, action: str) -> list[_Json]:
        """The parameters of every call of one action."""
        return [parameters for name, parameters in self.calls if name == action]

    def left(self) -> list[str]:
        """Access entries and Pod Identity associations that stand."""
        return [
            *(f"eks AccessEntries {principal}" for _, principal in self.entries),
            *(f"eks PodIdentityAssociations {one}" for _, one in self.identities),
        ]

    def answer(self, action: str, asked: _Json) -> _Json | None:
        """What this proxy answers itself; None: moto does."""
        own: Callable[[_Json], _Json] | None = getattr(self, f"_{xform_name(action)}", None)
        return own(asked) if own else None

    def complete(self, action: str, asked: _Json, answer: _Json) -> _Json:
        """Adds to moto's answer what moto forgot."""
        name = asked.get("clusterName") or asked.get("name") or ""
        if action == "CreateCluster":
            kept = {key: asked[key] for key in _CLUSTER if asked.get(key)}
            self.kept[name,] = {"version": asked.get("version"), **kept}
        if action == "CreateNodegroup":
            kept = {key: asked[key] for key in ("updateConfig", "version") if asked.get(key)}
            self.kept[name, asked["nodegroupName"]] = kept
        if action == "CreateAddon":
            for one in asked.get("podIdentityAssociations") or []:
                owner = answer["addon"]["addonArn"]
                self._associate(name, {**one, "namespace": "kube-system"}, owner)
        if action == "DeleteAddon":
            owned = [k for k, v in self.identities.items() if v.get("ownerArn") == _owner(answer)]
            for key in owned:
                del self.identities[key]
        if "cluster" in answer:
            kept = dict(self.kept.get((name,), {}))
            changed = kept.pop("vpc", {})
            answer["cluster"].update(kept)
            answer["cluster"]["resourcesVpcConfig"] = {
                "vpcId": "vpc-0a1b2c3d",
                "clusterSecurityGroupId": "sg-0a1b2c3d",
                **answer["cluster"]["resourcesVpcConfig"],
                **changed,
            }
        if "nodegroup" in answer:
            answer["nodegroup"].update(self.kept.get((name, asked["nodegroupName"]), {}))
        if "addon" in answer and action != "DeleteAddon":
            arns = [
                one["associationArn"]
                for one in self.identities.values()
                if one.get("ownerArn") == _owner(answer)
            ]
            if arns:
                answer["addon"]["podIdentityAssociations"] = arns
        return answer

    # Each method below is named as boto3 names its action.

    def _update_cluster_config(self, asked: _Json) -> _Json:
        kept = self.kept[asked["name"],]
        kept.update({key: asked[key] for key in _CLUSTER if asked.get(key)})
        kept["vpc"] = {**kept.get("vpc", {}), **(asked.get("resourcesVpcConfig") or {})}
        return _update("EndpointAccessUpdate")

    def _update_cluster_version(self, asked: _Json) -> _Json:
        self.kept[asked["name"],]["version"] = asked["version"]
        return _update("VersionUpdate")

    def _update_nodegroup_version(self, asked: _Json) -> _Json:
        changed = {key: asked[key] for key in ("version", "launchTemplate") if asked.get(key)}
        self.kept[asked["clusterName"], asked["nodegroupName"]].update(changed)
        return _update("VersionUpdate")

    def _describe_update(self, asked: _Json) -> _Json:
        return _update("VersionUpdate", asked["updateId"])

    def _create_access_entry(self, asked: _Json) -> _Json:
        cluster, principal = asked["clusterName"], asked["principalArn"]
        entry = {
            "clusterName": cluster,
            "principalArn": principal,
            "kubernetesGroups": asked.get("kubernetesGroups") or [],
            "accessEntryArn": f"{_ARN}:access-entry/{cluster}/{uuid.uuid4()}",
            "createdAt": _MADE,
            "modifiedAt": _MADE,
            "tags": asked.get("tags") or {},
            "username": asked.get("username") or principal,
            "type": asked.get("type") or "STANDARD",
        }
        self.entries[cluster, principal] = entry
        return {"accessEntry": entry}

    def _describe_access_entry(self, asked: _Json) -> _Json:
        return {"accessEntry": _find(self.entries, asked["clusterName"], asked["principalArn"])}

    def _delete_access_entry(self, asked: _Json) -> _Json:
        _find(self.entries, asked["clusterName"], asked["principalArn"])
        del self.entries[asked["clusterName"], asked["principalArn"]]
        return {}

    def _associate_access_policy(self, asked: _Json) -> _Json:
        where = asked["clusterName"], asked["principalArn"]
        _find(self.entries, *where)
        policy = {
            "policyArn": asked["policyArn"],
            "accessScope": {"namespaces": [], **asked["accessScope"]},
            "associatedAt": _MADE,
            "modifiedAt": _MADE,
        }
        self.policies.setdefault(where, {})[asked["policyArn"]] = policy
        return {"clusterName": where[0], "principalArn": where[1], "associatedAccessPolicy": policy}

    def _list_associated_access_policies(self, asked: _Json) -> _Json:
        where = asked["clusterName"], asked["principalArn"]
        _find(self.entries, *where)
        found = list(self.policies.get(where, {}).values())
        return {
            "clusterName": where[0],
            "principalArn": where[1],
            "associatedAccessPolicies": found,
        }

    def _disassociate_access_policy(self, asked: _Json) -> _Json:
        self.policies[asked["clusterName"], asked["principalArn"]].pop(asked["policyArn"])
        return {}

    def _create_pod_identity_association(self, asked: _Json) -> _Json:
        return {"association": self._associate(asked["clusterName"], asked)}

    def _describe_pod_identity_association(self, asked: _Json) -> _Json:
        found = _find(self.identities, asked["clusterName"], asked["associationId"])
        return {"association": found}

    def _delete_pod_identity_association(self, asked: _Json) -> _Json:
        found = _find(self.identities, asked["clusterName"], asked["associationId"])
        del self.identities[asked["clusterName"], asked["associationId"]]
        return {"association": found}

    def _associate(self, cluster: str, asked: _Json, owner: str | None = None) -> _Json:
        one = f"a-{uuid.uuid4().hex[:16]}"
        association = {
            "clusterName": cluster,
            "namespace": asked["namespace"],
            "serviceAccount": asked["serviceAccount"],
            "roleArn": asked["roleArn"],
            "associationArn": f"{_ARN}:podidentityassociation/{cluster}/{one}",
            "associationId": one,
            "tags": asked.get("tags") or {},
            "createdAt": _MADE,
            "modifiedAt": _MADE,
            **({"ownerArn": owner} if owner else {}),
        }
        self.identities[cluster, one] = association
        return association


def _find(where: Mapping[tuple[str, str], _Json], cluster: str, name: str) -> _Json:
    try:
        return where[cluster, name]
    except KeyError:
        raise _Absent(f"No {name} in {cluster}") from None


def _owner(answer: _Json) -> str:
    return str(answer["addon"]["addonArn"])


def _update(kind: str, one: str | None = None) -> _Json:
    made = {"id": one or str(uuid.uuid4()), "status": "Successful", "type": kind}
    return {"update": {**made, "params": [], "errors": [], "createdAt": _MADE}}


class _Api:
    """EKS's API, as botocore describes it."""

    def __init__(self) -> None:
        self._model = ServiceModel(Loader().load_service_model("eks", "service-2"), "eks")
        self._routes = []
        for name in self._model.operation_names:
            operation = self._model.operation_model(name)
            path = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.http["requestUri"])
            self._routes.append((operation.http["method"], re.compile(f"{path}/?"), name))

    def read(self, method: str, target: str, body: bytes) -> tuple[str, _Json, str]:
        """Action and parameters of a request, and what is wrong with them."""
        address = urlsplit(target)
        for verb, path, name in self._routes:
            found = path.fullmatch(address.path) if verb == method else None
            if found is None:
                continue
            shape: StructureShape = self._model.operation_model(name).input_shape
            places = {k: unquote(v) for k, v in found.groupdict().items()}
            query = {k: v[0] for k, v in parse_qs(address.query).items()}
            given: _Json = json.loads(body) if body else {}
            for member, kind in shape.members.items():
                where = kind.serialization.get("location")
                wire = kind.serialization.get("name", member)
                if where == "uri":
                    given[member] = places[wire]
                elif where == "querystring" and wire in query and kind.type_name == "string":
                    given[member] = query[wire]
            report = ParamValidator().validate(given, shape)
            wrong = report.generate_report() if report.has_errors() else ""
            return name, given, wrong
        return "", {}, f"EKS has no {method} {address.path}"


@contextlib.contextmanager
def remembering(upstream: str) -> Iterator[EksMemory]:
    """Serves EKS in front of the AWS server at `upstream` for the block."""
    memory, api = EksMemory(), _Api()
    target = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _hand_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            action, asked, wrong = api.read(self.command, self.path, body)
            if wrong:
                self._send(400, {"message": wrong}, "InvalidParameterException")
                return
            memory.calls.append((action, asked))
            try:
                own = memory.answer(action, asked)
            except _Absent as error:
                self._send(404, {"message": str(error)}, "ResourceNotFoundException")
                return
            if own is not None:
                self._send(200, own)
                return
            connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
            with contextlib.closing(connection):
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                content = answer.read()
            if answer.status == 200 and content:
                content = json.dumps(memory.complete(action, asked, json.loads(content))).encode()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OWN_HEADERS:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _send(self, status: int, answer: _Json, error: str = "") -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if error:
                self.send_header("X-Amzn-ErrorType", error)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _hand_on  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    memory.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield memory
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
