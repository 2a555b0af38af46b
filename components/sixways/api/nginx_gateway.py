"""`NginxGateway`: keys, plans, routes and logs by Nginx, on this machine or a host of yours."""

from typing import Any, cast

import pulumi

from sixways.api import defaults
from sixways.api.nginx_args import NginxGatewayArgs, TlsArgs, problems
from sixways.api.nginx_process import NginxProcess
from sixways.api_key import ApiKey
from sixways.checks import InputsRefused

__all__ = ["NginxGateway", "NginxGatewayArgs", "TlsArgs", "problems"]

_AS_GIVEN = ("plans", "routes", "max_body_bytes", "log", "trusted_proxies", "metrics_port",
             "state_dir")  # fmt: skip


class NginxGateway(pulumi.ComponentResource):
    """A gateway that needs no cluster: one Nginx in front of several instances.

    It checks keys, holds each caller to a plan's rate, lets through what a route names, writes a
    JSON line a request with the key's name, and passes over an instance that does not answer.
    """

    url: pulumi.Output[str]
    """Base URL, without a trailing slash."""
    health_url: pulumi.Output[str]
    """Answers 200 while an instance may get requests; needs no key."""
    api_key: pulumi.Output[str]
    """The first key, a secret."""
    api_keys: pulumi.Output[dict[str, str]]
    """Every caller's key by the caller's name, a secret."""
    dashboard: pulumi.Output[str]
    """The API documents, which callers can try requests from."""
    certificate: pulumi.Output[str]
    """The certificate that callers see; empty without TLS."""
    log_path: pulumi.Output[str]
    """The access log, `*` in the place of a day's date."""
    status: pulumi.Output[str]
    """`running`; after a refresh `stopped` or `changed`, which the next update heals."""

    def __init__(
        self, name: str, args: NginxGatewayArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Starts the gateway.

        Args:
            name: the resource's name.
            args: see `NginxGatewayArgs`.
            opts: the usual resource options.

        Raises:
            InputsRefused: inputs that cannot be used; carries every problem.
        """
        found = problems(name, args)
        if found:
            raise InputsRefused(f"NginxGateway {name}", found)
        super().__init__("sixways:api:NginxGateway", name, None, opts)
        given = cast(dict[str, Any], args)
        keys = self._keys(name, given["keys"])
        listen = given.get("listen", "0.0.0.0" if given.get("host") else "127.0.0.1")  # noqa: S104
        inputs: dict[str, Any] = {
            "upstream": _split(given["upstream"], "api_key", keep=False),
            "upstream_key": pulumi.Output.secret(_split(given["upstream"], "api_key", keep=True)),
            "keys": pulumi.Output.secret(keys),
            "listen": listen,
            **{field: given[field] for field in _AS_GIVEN if given.get(field) is not None},
            **self._tls(name, given.get("tls"), listen),
        }
        inputs["port"] = (
            given.get("port") or defaults.PORTS[bool(given.get("host")), "certificate" in inputs]
        )
        if given.get("host"):
            inputs["host"] = _split(given["host"], "private_key", keep=False)
            key = _split(given["host"], "private_key", keep=True)
            inputs["private_key"] = pulumi.Output.secret(key)
        nginx = NginxProcess(f"{name}-nginx", inputs, pulumi.ResourceOptions(parent=self))
        self.url, self.health_url = nginx.url, nginx.health_url
        self.log_path, self.status = nginx.log_path, nginx.status
        self.api_keys = pulumi.Output.secret({key["name"]: key["key"] for key in keys})
        self.api_key = pulumi.Output.secret(keys[0]["key"])
        self.dashboard = pulumi.Output.concat(self.url, "/docs")
        self.certificate = pulumi.Output.from_input(inputs.get("certificate", ""))
        outputs = (output for output in NginxGateway.__annotations__ if output[0] != "_")
        self.register_outputs({output: getattr(self, output) for output in outputs})

    def _keys(self, name: str, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The keys, with a random one where none is given."""
        made = []
        for key in given:
            if key.get("key") is None:
                own = pulumi.ResourceOptions(parent=self)
                key = {**key, "key": ApiKey(f"{name}-key-{key['name']}", opts=own).key}
            made.append({k: v for k, v in key.items() if v is not None})
        return made

    def _tls(self, name: str, tls: Any, listen: Any) -> dict[str, Any]:
        if tls is None:
            return {}
        if not isinstance(tls, dict) or tls.get("self_signed") is not True:
            own = pulumi.Output.secret(tls)
            certificate = pulumi.Output.unsecret(own.apply(lambda it: it["certificate"]))
            return {
                "certificate": certificate,
                "certificate_key": own.apply(lambda it: it["certificate_key"]),
            }
        from sixways.server.certificate import SelfSignedCertificate

        anywhere = listen in ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on
        names = ["127.0.0.1" if anywhere else listen, *(tls.get("names") or ["localhost"])]
        made = SelfSignedCertificate(
            f"{name}-certificate", {"names": names}, pulumi.ResourceOptions(parent=self)
        )
        return {"certificate": made.certificate, "certificate_key": made.private_key}


def _split(value: Any, secret: str, *, keep: bool) -> Any:
    """A mapping without its secret, or that alone; so that the rest can be seen in a preview."""

    def part(it: dict[str, Any]) -> Any:
        if keep:
            return it.get(secret)
        return {name: item for name, item in it.items() if name != secret}

    return part(value) if isinstance(value, dict) else pulumi.Output.from_input(value).apply(part)
