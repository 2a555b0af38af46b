"""`PrivateServer`: bundles served by hosts of your own, over ssh."""

import contextlib
import ipaddress
from typing import Any, cast

import pulumi

from sixways.api_key import ApiKey
from sixways.checks import InputsRefused
from sixways.endpoint import bundle_digest
from sixways.plugin.api_key import sha256
from sixways.server.args import AccessArgs
from sixways.server.certificate import SelfSignedCertificate
from sixways.server.host import Host, HostArgs
from sixways.server.monitoring import Monitoring, MonitoringArgs
from sixways.server.private.args import (
    PrivateServerArgs,
    ServerAcmeArgs,
    ServerFirewallArgs,
    ServerHostArgs,
    ServerLimitsArgs,
    ServerModelArgs,
    ServerMonitoringArgs,
    ServerPackagesArgs,
    ServerSettingsArgs,
    ServerTlsArgs,
)
from sixways.server.private.problems import problems
from sixways.server.release import Release, ReleaseArgs
from sixways.server.site import Site, SiteArgs

__all__ = [
    "PrivateServer",
    "PrivateServerArgs",
    "ServerAcmeArgs",
    "ServerFirewallArgs",
    "ServerHostArgs",
    "ServerLimitsArgs",
    "ServerModelArgs",
    "ServerMonitoringArgs",
    "ServerPackagesArgs",
    "ServerSettingsArgs",
    "ServerTlsArgs",
    "problems",
]

_FLEET = "sixways-fleet"
"""The name in the certificate that the hosts of one server show each other."""
_ITSELF = ["127.0.0.0/8", "::1/128"]
_ACCESS = tuple(AccessArgs.__annotations__)


class PrivateServer(pulumi.ComponentResource):
    """Bundles behind an https address on hosts of your own, which ssh alone must reach.

    Each host runs the server behind Nginx; with several hosts every Nginx uses the servers of all.
    A change is made on one host after another, and on each beside what serves: only a server that
    is ready gets requests.
    """

    url: pulumi.Output[str]
    """Base URL, without a trailing slash."""
    health_url: pulumi.Output[str]
    """Answers 200 while the server is up; needs no key."""
    api_key: pulumi.Output[str]
    """The key, a secret."""
    bundle_digest: pulumi.Output[str]
    """The bundle's digest; with several models that of all names and digests."""
    dashboard: pulumi.Output[str]
    """The page that shows how it does: the server's own console, or with `monitoring` Grafana's or
    Prometheus', on that host's loopback (`ssh -L`)."""
    urls: pulumi.Output[dict[str, str]]
    """By host its own base URL: what a load balancer in front, or your DNS, needs."""
    certificate: pulumi.Output[str]
    """The certificate that callers see (PEM), to be given to those of a self-signed one; empty
    with `acme`."""
    slots: pulumi.Output[dict[str, str]]
    """By host the slot that serves, `blue` or `green`."""

    def __init__(
        self, name: str, args: PrivateServerArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Makes the server.

        Args:
            name: the resource's name.
            args: see `PrivateServerArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: inputs that cannot be used; carries every problem.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"PrivateServer {name}", found)
        super().__init__("sixways:server:PrivateServer", name, None, opts)
        # Nothing given and None given are the same.
        args = cast(PrivateServerArgs, {k: v for k, v in args.items() if v is not None})
        self._name, self._args = name, args
        self._opts = pulumi.ResourceOptions(parent=self)
        self._owner = f"{pulumi.get_project()}/{pulumi.get_stack()}/{name}"
        self._settings: dict[str, Any] = _given(args.get("server"))
        self._limits: dict[str, Any] = _given(args.get("limits"))
        self.api_key, hashes = self._keys()
        certificate, self.certificate = self._certificate()
        hosts = {str(host["name"]): self._host(host) for host in args["hosts"]}
        fleet = self._fleet()
        slots: dict[str, pulumi.Output[str]] = {}
        before: list[pulumi.Resource] = [*hosts.values()]  # a host that fails stops all releases
        for access in args["hosts"]:
            where = str(access["name"])
            release = self._release(access, hosts[where], hashes, before)
            site = self._site(access, hosts[where], {**certificate, **fleet}, release)
            # Host after host: what fails on one does not come to the next.
            before = [*hosts.values(), site]
            slots[where] = release.slot
        self.url = self._url(args.get("domain", args["hosts"][0]["address"]))
        self.health_url = pulumi.Output.concat(self.url, "/healthz")
        self.bundle_digest = pulumi.Output.from_input(args["models"]).apply(
            lambda models: bundle_digest(cast(Any, models))
        )
        self.urls = pulumi.Output.all(
            **{str(host["name"]): self._url(host["address"]) for host in args["hosts"]}
        )
        self.slots = pulumi.Output.all(**slots)
        self.dashboard = self._monitoring(before) or pulumi.Output.concat(self.url, "/")
        outputs = (output for output in type(self).__annotations__ if not output.startswith("_"))
        self.register_outputs({output: getattr(self, output) for output in outputs})

    def _keys(self) -> tuple[pulumi.Output[str], list[dict[str, Any]]]:
        """The key, and the hashes that the hosts know."""
        args = self._args
        if "api_key" in args:
            key = pulumi.Output.secret(args["api_key"])
            own = key.apply(sha256)
        else:
            made = ApiKey(f"{self._name}-key", opts=self._opts)
            key, own = made.key, made.sha256
        hashes: list[dict[str, Any]] = [{"name": "default", "sha256": own}]
        if "previous_api_key" in args:
            previous = pulumi.Output.secret(args["previous_api_key"])
            hashes.append({"name": "previous", "sha256": previous.apply(sha256)})
        return key, hashes

    def _certificate(self) -> tuple[dict[str, Any], pulumi.Output[str]]:
        """The site's inputs for it, and the certificate where it is known."""
        args = self._args
        tls: Any = args["tls"]
        if acme := _given(tls.get("acme")):
            domains = acme.get("domains") or [args["domain"]]
            return {"acme": {**acme, "domains": domains}}, pulumi.Output.from_input("")
        if tls.get("self_signed"):
            addresses = [host["address"] for host in args["hosts"]]
            own = [args["domain"]] if "domain" in args else []
            made = SelfSignedCertificate(
                f"{self._name}-certificate",
                {"names": cast(Any, pulumi.Output.all(*own, *addresses).apply(_once))},
                opts=self._opts,
            )
            certificate, key = made.certificate, made.private_key
        else:
            certificate = pulumi.Output.from_input(tls["certificate"])
            key = pulumi.Output.secret(tls["certificate_key"])
        return {"certificate": certificate, "certificate_key": key}, certificate

    def _fleet(self) -> dict[str, Any]:
        """What the hosts need of each other; nothing where there is one."""
        hosts = self._args["hosts"]
        if len(hosts) == 1:
            return {}
        made = SelfSignedCertificate(f"{self._name}-fleet", {"names": [_FLEET]}, opts=self._opts)
        return {
            "peers": [host["address"] for host in hosts],
            "fleet_certificate": made.certificate,
            "fleet_key": made.private_key,
        }

    def _host(self, host: ServerHostArgs) -> Host:
        args: Any = self._args
        further: dict[str, Any] = {}
        if "firewall" in args:
            further["firewall"] = self._firewall(host)
        if "system_packages" in args:
            further["packages"] = args["system_packages"]
        if "supervisor" in args:
            further["supervisor"] = args["supervisor"]
        inputs = {
            **_access(host),
            **further,
            "owner": self._owner,
            "acme": bool(args["tls"].get("acme")),
            "node_exporter": "monitoring" in args,
        }
        return Host(f"{self._name}-{host['name']}", cast(HostArgs, inputs), opts=self._opts)

    def _firewall(self, host: ServerHostArgs) -> dict[str, Any]:
        args: Any = self._args
        rules = _given(args["firewall"])
        ports = [*rules.get("ports", [])]
        if args.get("redirect_http", True) is not False or args["tls"].get("acme"):
            ports.append(80)
        port = {"https_port": args["https_port"]} if "https_port" in args else {}
        peers = [other["address"] for other in args["hosts"] if other is not host]
        return {**rules, **port, "ports": ports, "fleet": peers}

    def _release(
        self,
        host: ServerHostArgs,
        made: Host,
        hashes: list[dict[str, Any]],
        after: list[pulumi.Resource],
    ) -> Release:
        args: Any = self._args
        server = dict(self._settings)
        if "max_body_bytes" in self._limits:
            server["max_body_bytes"] = self._limits["max_body_bytes"]
        further = ("memory_max", "cpu_quota", "keep", "ready_seconds", "supervisor")
        inputs = {
            **_access(host),
            **_given(args.get("packages")),
            **{field: args[field] for field in further if field in args},
            "models": args["models"],
            "keys": hashes,
            "server": server,
            "python": made.python,
            "systemd_version": made.systemd_version,
            "gpu": made.gpus.apply(bool),
        }
        return Release(
            f"{self._name}-{host['name']}-release",
            cast(ReleaseArgs, inputs),
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )

    def _site(
        self, host: ServerHostArgs, made: Host, tls: dict[str, Any], release: Release
    ) -> Site:
        args: Any = self._args
        further = ("server_names", "https_port", "redirect_http", "trusted_proxies")
        seconds = {k: v for k, v in self._settings.items() if k == "request_seconds"}
        inputs = {
            **_access(host),
            **{field: args[field] for field in further if field in args},
            **self._limits,
            **self._metrics_from(),
            **seconds,
            **tls,
            "nginx_version": made.nginx_version,
        }
        return Site(
            f"{self._name}-{host['name']}-site",
            cast(SiteArgs, inputs),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[release]),
        )

    def _metrics_from(self) -> dict[str, Any]:
        args: Any = self._args
        if "monitoring" not in args:
            return {"metrics_from": args["metrics_from"]} if "metrics_from" in args else {}
        networks = pulumi.Output.from_input(args.get("metrics_from", _ITSELF))
        both = pulumi.Output.all(networks, self._watcher()["address"])
        return {"metrics_from": both.apply(lambda found: _once([*found[0], found[1]]))}

    def _watcher(self) -> ServerHostArgs:
        """The host that `monitoring` names."""
        args: Any = self._args
        (found,) = (h for h in args["hosts"] if h["name"] == args["monitoring"]["host"])
        return cast(ServerHostArgs, found)

    def _monitoring(self, after: list[pulumi.Resource]) -> pulumi.Output[str] | None:
        """The address of what shows it; None where nothing watches."""
        args: Any = self._args
        if "monitoring" not in args:
            return None
        own = {k: v for k, v in _given(args["monitoring"]).items() if k != "host"}
        if "grafana_password" in own:
            own["grafana_password"] = pulumi.Output.secret(own["grafana_password"])
        port = {"port": args["https_port"]} if "https_port" in args else {}
        inputs = {
            **_access(self._watcher()),
            **own,
            **({"slo": args["slo"]} if "slo" in args else {}),
            # No system knows the authority of a company's own: the certificate itself is trusted.
            **({} if args["tls"].get("acme") else {"ca": self.certificate}),
            **({"server_name": args["domain"]} if "domain" in args else {}),
            "owner": self._owner,
            "name": self._name,
            "targets": [
                {"name": host["name"], "address": host["address"], **port} for host in args["hosts"]
            ],
            "node_exporter": True,
        }
        made = Monitoring(
            f"{self._name}-monitoring",
            cast(MonitoringArgs, inputs),
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )
        return pulumi.Output.all(made.grafana_url, made.url).apply(lambda urls: urls[0] or urls[1])

    def _url(self, name: pulumi.Input[str]) -> pulumi.Output[str]:
        return pulumi.Output.all(name, self._args.get("https_port", 443)).apply(
            lambda both: _https(str(both[0]), int(both[1]))
        )


def _given(values: Any) -> dict[str, Any]:
    return {key: value for key, value in (values or {}).items() if value is not None}


def _access(host: ServerHostArgs) -> Any:
    access = {field: host[field] for field in _ACCESS if host.get(field) is not None}  # type: ignore[literal-required]
    if "private_key" in access:
        access["private_key"] = pulumi.Output.secret(access["private_key"])
    return access


def _once(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _https(name: str, port: int) -> str:
    with contextlib.suppress(ValueError):
        name = f"[{name}]" if ipaddress.ip_address(name).version == 6 else name
    return f"https://{name}" if port == 443 else f"https://{name}:{port}"
