"""What a machine does when it starts: one shell script, run by cloud-init.

It holds no secret. The keys' hashes come from a parameter that only the machine's role reads; the
parameter's version is in the script, so another key is another script and reaches every machine.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sixways.server.files import Site, Unit, server_config, template

MOST_BYTES = 16 * 1024
"""AWS's limit of user data before it is encoded (EC2 user guide, "User data")."""
SLOT = "main"
BUNDLES = "/opt/sixways/bundles"
LOG = "/var/log/sixways/server.log"
# Addresses of these ranges can only be a load balancer's: the security group lets nobody else in.
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
_EXTRAS = {"litert", "tensorflow", "torch", "vllm"}  # engines that `server` does not bring
_ROTATE = f"{LOG} {{\n  size 50M\n  rotate 3\n  copytruncate\n  compress\n  missingok\n}}\n"


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of a machine."""

    name: str
    bundle_uri: str
    bundle_digest: str
    variant: str | None = None

    @property
    def path(self) -> str:
        """Where its bundle lies on the machine."""
        return f"{BUNDLES}/{self.bundle_digest.removeprefix('sha256:')}"


@dataclass(frozen=True, kw_only=True)
class Boot:
    """Everything that the script is made of.

    Attributes:
        models: what is served.
        region: of the machine.
        version: of sixways.
        keys_parameter: SSM parameter with the keys file, as `NAME:VERSION`.
        log_group: CloudWatch log group.
        architecture: `x86_64` or `arm64`.
        gpu: whether the machine has an NVIDIA GPU.
        package_index: where pip looks; None: PyPI, or nothing where there is a wheelhouse.
        wheelhouse_uri: S3 folder with wheels.
        workers: processes that serve.
        request_seconds: longest time of a request.
        drain_seconds: longest time from SIGTERM to the end.
        max_body_bytes: largest body.
        requests_per_minute: of one key; None: no limit.
        keepalive_seconds: of connections from the load balancer.
    """

    models: tuple[Model, ...]
    region: str
    version: str
    keys_parameter: str
    log_group: str
    architecture: str
    gpu: bool
    package_index: str | None
    wheelhouse_uri: str | None
    workers: int
    request_seconds: float
    drain_seconds: float
    max_body_bytes: int
    requests_per_minute: int | None
    keepalive_seconds: int

    def render(self) -> str:
        """The script.

        Raises:
            ValueError: it is longer than AWS takes.
        """
        models = [
            {
                "uri": shlex.quote(model.bundle_uri),
                "digest": shlex.quote(model.bundle_digest),
                "path": shlex.quote(model.path),
            }
            for model in self.models
        ]
        wheelhouse = self.wheelhouse_uri and shlex.quote(self.wheelhouse_uri)
        text = template(__package__, "", "user_data.sh").render(
            slot=SLOT,
            region=shlex.quote(self.region),
            models=models,
            wheelhouse=wheelhouse,
            pip_options=self._pip_options(),
            requirement=shlex.quote(self.requirement),
            keys_parameter=shlex.quote(self.keys_parameter),
            files=self._files(),
            ssm_agent=self._agent("amazon-ssm", "latest/debian_{}/amazon-ssm-agent.deb"),
            cloudwatch_agent=self._agent(
                "amazoncloudwatch-agent", "debian/{}/latest/amazon-cloudwatch-agent.deb"
            ),
        )
        size = len(text.encode())
        if size > MOST_BYTES:
            raise ValueError(
                f"models: the machine's start script is {size} bytes, and AWS takes {MOST_BYTES}; "
                "serve fewer models from one endpoint"
            )
        return text

    @property
    def requirement(self) -> str:
        """What pip installs."""
        engines = {(model.variant or "").partition("-")[0] for model in self.models}
        extras = {"server", "s3"} | (engines & _EXTRAS)
        if self.gpu:
            extras.add("gpu")
        return f"sixways[{','.join(sorted(extras))}]=={self.version}"

    def _pip_options(self) -> str:
        options = ' --find-links "$home/wheels"' if self.wheelhouse_uri else ""
        if self.package_index:
            return f"{options} --index-url {shlex.quote(self.package_index)}"
        return f"{options} --no-index" if self.wheelhouse_uri else options

    def _agent(self, bucket: str, path: str) -> str:
        end = "com.cn" if self.region.startswith("cn-") else "com"
        machine = "arm64" if self.architecture == "arm64" else "amd64"
        host = f"https://{bucket}-{self.region}.s3.{self.region}.amazonaws.{end}"
        return shlex.quote(f"{host}/{path.format(machine)}")

    def _files(self) -> Sequence[dict[str, str]]:
        config = server_config(
            [_served(model) for model in self.models],
            keys_file=f"/etc/sixways/{SLOT}-keys.json",
            status_file=f"/run/sixways/{SLOT}/status.json",
            workers=self.workers,
            request_seconds=self.request_seconds,
            drain_seconds=self.drain_seconds,
            max_body_bytes=self.max_body_bytes,
            console=False,
        )
        unit = Unit(drain_seconds=self.drain_seconds, log_file=LOG, gpu=self.gpu)
        site = Site(
            redirect_http=False,
            max_body_bytes=self.max_body_bytes,
            request_seconds=self.request_seconds,
            requests_per_minute=self.requests_per_minute,
            keepalive_seconds=self.keepalive_seconds,
            trusted_proxies=_PRIVATE,
        )
        return [
            _file(f"/etc/sixways/{SLOT}.json", config, "0640", "sixways"),
            _file("/etc/systemd/system/sixways-server@.service", unit.render()),
            _file("/etc/nginx/conf.d/sixways.conf", site.render()),
            _file("/etc/logrotate.d/sixways", _ROTATE),
            _file("/etc/sixways/cloudwatch-agent.json", cloudwatch_agent(self.log_group)),
        ]


def _served(model: Model) -> dict[str, Any]:
    served = {"name": model.name, "path": model.path, "digest": model.bundle_digest}
    return served | ({"variant": model.variant} if model.variant else {})


def _file(path: str, text: str, mode: str = "0644", group: str = "root") -> dict[str, str]:
    return {"path": path, "text": _without_comments(text), "mode": mode, "group": group}


def _without_comments(text: str) -> str:
    """User data is short: comments and empty lines stay at home."""
    lines = (
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    )
    return "".join(f"{line}\n" for line in lines)


def cloudwatch_agent(log_group: str) -> str:
    """The CloudWatch agent's configuration: three logs, and memory, which EC2 does not measure."""
    logs = [
        {
            "file_path": path,
            "log_group_name": log_group,
            "log_stream_name": f"{{instance_id}}/{what}",
        }
        for path, what in (
            (LOG, "server"),
            ("/var/log/nginx/sixways.access.log", "access"),
            ("/var/log/cloud-init-output.log", "boot"),
        )
    ]
    config = {
        "agent": {"run_as_user": "root"},
        "logs": {"logs_collected": {"files": {"collect_list": logs}}},
        "metrics": {
            "namespace": "Sixways",
            "append_dimensions": {"AutoScalingGroupName": "${aws:AutoScalingGroupName}"},
            "aggregation_dimensions": [["AutoScalingGroupName"]],
            "metrics_collected": {
                "mem": {"measurement": ["mem_used_percent"]},
                "disk": {"measurement": ["used_percent"], "resources": ["/"]},
            },
        },
    }
    return msgspec.json.format(msgspec.json.encode(config)).decode() + "\n"
