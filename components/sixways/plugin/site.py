"""`sixways:server:Site`: Nginx in front of a host's server."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from sixways.naming import to_camel
from sixways.plugin import hosts
from sixways.plugin.resource import Call, Changes, Resource, Values, unexpected
from sixways.plugin.site_checks import NUMBERS, PAIRS, check_certificates, check_values
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways.server import layout
from sixways_bundle import BundleError, Problem
from sixways_bundle.errors import MissingExtra

if TYPE_CHECKING:
    from sixways.server.host_site import HostSite
    from sixways.server.nginx import File
    from sixways.server.ssh import Remote

_DEFAULTS: Values = {
    "serverNames": ["_"], "httpsPort": 443, "redirectHttp": True, "peers": [], "burst": 20,
    "metricsFrom": ["127.0.0.0/8", "::1/128"], "trustedProxies": [], "keepaliveSeconds": 75,
}  # fmt: skip
_INPUTS = (*hosts.ACCESS, *_DEFAULTS, *NUMBERS, *(n for pair in PAIRS for n in pair), "acme",
           "requestSeconds", "nginxVersion")  # fmt: skip
_RENDERED = (*_DEFAULTS, *NUMBERS, "requestSeconds", "nginxVersion")
"""What the site's text is made of, besides whether there is a certificate."""
_OUTPUTS = ("url", "notAfter", "status", "siteSha256", "startedNginx", "holder")
_SERVING = "serving"
_LIVE = layout.GREEN_IS_LIVE.rpartition("/")[0]


class SiteResource(Resource):
    """The files of one Nginx site on one host, and the certificate that it shows."""

    token = "sixways:server:Site"  # noqa: S105 - a type token, no secret
    secrets = hosts.SECRETS | {"certificateKey", "fleetKey"}

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """Checks all inputs; the host itself is looked at when it is changed."""
        checked = {**hosts.ACCESS_DEFAULTS, **_DEFAULTS, **inputs}
        if isinstance(checked.get("acme"), dict):
            checked["acme"] = _acme_defaults(checked["acme"])
        problems = unexpected(inputs, _INPUTS) + hosts.check_access(checked)
        problems += check_values(checked)
        problems += check_certificates(checked)
        if not problems and not is_unknown([checked[n] for n in _RENDERED if n in checked]):
            try:
                _site(checked).render()
            except ValueError as error:
                field, _, why = str(error).partition(": ")
                problems.append(Problem(to_camel(field), why, "what Nginx can hold", "correct it"))
        return checked, problems

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """Another address is another host; all else changes in place."""
        changed = [n for n in _INPUTS if n != "address" and state.get(n) != inputs.get(n)]
        if state.get("status") != _SERVING:
            changed.append("status")
        # Another version of this package may write another site from the same inputs.
        if not changed and state.get("siteSha256") != _foreseen(inputs)["siteSha256"]:
            changed.append("siteSha256")
        return Changes(changed, ["address"] if state["address"] != inputs["address"] else [])

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Writes the site and has Nginx take it up; a refused one leaves nothing."""
        if preview:
            return "", {**inputs, **_foreseen(inputs)}
        outputs = self._apply(call, inputs, {})
        return f"{inputs['address']}{layout.NGINX_SITE}", {**inputs, **outputs}

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """The state as it is: a changed or missing file, or an Nginx that is gone, is drift."""
        if "siteSha256" not in state:
            raise BundleError("a site cannot be imported. Fix: declare it and run pulumi up, which "
                              "writes it anew")  # fmt: skip
        with hosts.host(state) as remote:
            from sixways.server import acme, host_site, nginx

            wrong = nginx.differing(remote, _files(state))
            if "acme" in state and not acme.kept(remote):
                wrong.append(acme.NAME)
            status = f"changed: {', '.join(wrong)}" if wrong else _SERVING
            if not wrong and set(_ports(state)) - nginx.listening(remote):
                status = "stopped"
            shown = remote.read(host_site.CERTIFICATE)
        if status != _SERVING:
            call.log("warning", f"the site is not as it was made ({status}); the next update mends "
                     "it.", False)  # fmt: skip
        return {**state, "status": status, "notAfter": _end(shown) or state["notAfter"]}

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Writes what changed; Nginx takes it up without ending a request."""
        if preview:
            return {**inputs, **_foreseen(inputs), **_kept(state)}
        return {**inputs, **self._apply(call, inputs, state)}

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Takes the site away with its certificates and logs; Nginx goes on without it."""
        with hosts.leaving(call), hosts.host(state) as remote:
            from sixways.server import acme, holder, host_site, nginx, silence

            if holder.is_anothers(remote, holder.SITE, state.get("holder", "")):
                call.log("warning", f"the site on {state['address']} is another resource's by now, "
                         "and stays.", False)  # fmt: skip
                return
            remote.remove(layout.NGINX_SITE)
            if nginx.runs(remote):
                if state["startedNginx"]:
                    nginx.stop(remote)
                else:
                    nginx.reload(remote)
            acme.leave(remote)
            silence.forget(remote)
            remote.remove(*_certificates(), holder.SITE)
            logs = (host_site.ACCESS_LOG, host_site.ERROR_LOG)
            remote.run("sh", "-c", 'for log; do rm -f -- "$log" "$log"[.-]*; done', "rm", *logs)
            _leave_folders(remote)

    def _apply(self, call: Call, inputs: Values, state: Values) -> Values:
        with hosts.host(inputs) as remote:
            from sixways.server import acme, holder, host_site, nginx, silence

            files, ports = _files(inputs), _ports(inputs)
            nginx.require_free(remote, ports)
            started = not nginx.runs(remote)
            try:
                with nginx.put_back_on_error(
                    remote, [*_certificates(), layout.NGINX_SITE, acme.HOOK, layout.FLEET_SYSCTL]
                ):
                    call.status("write the site")
                    _make_folders(remote)
                    if "acme" in inputs:
                        _prepare_acme(remote)
                    changed = nginx.put(remote, files)
                    nginx.check(remote)
                    if started:
                        nginx.start(remote)
                    elif changed or not _taken_up(state, inputs):
                        nginx.reload(remote)
                    nginx.wait_until_it_listens(remote, ports)
                    if "acme" in inputs:
                        _ask_for_certificate(call, remote, inputs["acme"], state.get("acme", {}))
            except BundleError:
                if not state:
                    with contextlib.suppress(BundleError):
                        if started:
                            nginx.stop(remote)
                        remote.remove(host_site.CHALLENGES)
                        _leave_folders(remote)
                raise
            if "acme" not in inputs:
                acme.leave(remote)
            if not inputs["peers"]:
                silence.forget(remote)
            elif not silence.heed(remote):
                call.log("warning", "the kernel's settings cannot be changed on this host: a peer "
                         "that loses its power is noticed late", False)  # fmt: skip
            # What the inputs no longer name.
            remote.remove(*set(_certificates()) - {*files, *_shown()})
            own = state.get("holder") or holder.new()
            holder.take(remote, holder.SITE, own)
            shown = remote.read(host_site.CERTIFICATE)
        return {
            **_foreseen(inputs),
            "notAfter": _end(shown),
            "startedNginx": state.get("startedNginx", started),
            "holder": own,
        }


def _kept(state: Values) -> Values:
    return {name: state[name] for name in ("startedNginx", "holder") if name in state}


def _taken_up(state: Values, inputs: Values) -> bool:
    """Whether Nginx has surely read what these inputs say: the last update may have been cut."""
    same = all(state.get(n) == inputs.get(n) for n in _INPUTS if n not in hosts.ACCESS)
    return same and state.get("status") == _SERVING


def _make_folders(remote: Remote) -> None:
    # Nginx's own user looks for the file that says which slot serves.
    remote.folder(layout.ETC)
    remote.folder(_LIVE)
    remote.folder(layout.TLS, mode=0o700)


def _leave_folders(remote: Remote) -> None:
    """Those that are empty now; others have files there too."""
    remote.run("rmdir", "--ignore-fail-on-non-empty", layout.TLS, _LIVE, layout.ETC, check=False)


def _ask_for_certificate(call: Call, remote: Remote, wanted: Values, before: Values) -> None:
    from sixways.server import acme

    call.status(f"ask {wanted['directoryUrl']} for a certificate")
    # certbot keeps a certificate whoever it is from.
    anew = before.get("directoryUrl", wanted["directoryUrl"]) != wanted["directoryUrl"]
    acme.obtain(
        remote,
        acme.Acme(wanted["email"], wanted["domains"], wanted["directoryUrl"]),
        call.status,
        anew=anew,
    )


def _prepare_acme(remote: Remote) -> None:
    """The folder of the challenges, and a certificate for Nginx to start with."""
    from sixways.plugin.certificate import self_signed
    from sixways.server import acme, host_site, nginx

    remote.folder(host_site.CHALLENGES)
    nginx.put(remote, {acme.HOOK: acme.HOOK_FILE})
    if not (remote.exists(host_site.CERTIFICATE) and remote.exists(host_site.CERTIFICATE_KEY)):
        made = self_signed(["localhost"], 1)
        nginx.put(remote, _pair(_shown(), made.certificate, made.private_key))


def _files(inputs: Values) -> dict[str, File]:
    """What lies on the host because of the inputs; an ACME certificate is not of them."""
    from sixways.server import host_site, silence
    from sixways.server.nginx import File

    files: dict[str, File] = {}
    if "certificate" in inputs:
        files |= _pair(_shown(), inputs["certificate"], inputs["certificateKey"])
    if inputs["peers"]:
        fleet = (host_site.FLEET_CERTIFICATE, host_site.FLEET_KEY)
        files |= _pair(fleet, inputs["fleetCertificate"], inputs["fleetKey"])
        files[layout.FLEET_SYSCTL] = silence.FILE
    return {**files, layout.NGINX_SITE: File(_site(inputs).render())}


def _pair(paths: tuple[str, str], certificate: str, key: str) -> dict[str, File]:
    from sixways.server.nginx import File

    return {paths[0]: File(certificate), paths[1]: File(key, 0o600)}


def _shown() -> tuple[str, str]:
    from sixways.server import host_site

    return (host_site.CERTIFICATE, host_site.CERTIFICATE_KEY)


def _certificates() -> tuple[str, ...]:
    from sixways.server import host_site

    return (*_shown(), host_site.FLEET_CERTIFICATE, host_site.FLEET_KEY)


def _ports(inputs: Values) -> dict[int, str]:
    """Where Nginx listens for the site, and which input says so."""
    ports = {inputs["httpsPort"]: "httpsPort"}
    if inputs["redirectHttp"] or "acme" in inputs:
        ports[80] = "redirectHttp" if inputs["redirectHttp"] else "acme"
    if inputs["peers"]:
        ports[layout.FLEET_PORT] = "peers"
    return ports


def _site(inputs: Values) -> HostSite:
    try:
        from sixways.server.host_site import CHALLENGES, HostSite
    except ImportError:  # jinja2
        raise MissingExtra("a site on a host", "ssh") from None
    given = {
        "port": inputs["httpsPort"],
        "challenges": CHALLENGES if "acme" in inputs else None,
        **({"max_body_bytes": inputs["maxBodyBytes"]} if "maxBodyBytes" in inputs else {}),
        **({"request_seconds": inputs["requestSeconds"]} if "requestSeconds" in inputs else {}),
    }
    return HostSite(
        nginx_version=inputs["nginxVersion"],
        server_names=tuple(inputs["serverNames"]),
        redirect_http=inputs["redirectHttp"],
        peers=tuple(inputs["peers"]),
        keepalive_seconds=inputs["keepaliveSeconds"],
        requests_per_minute=inputs.get("requestsPerMinute"),
        burst=inputs["burst"],
        trusted_proxies=tuple(inputs["trustedProxies"]),
        metrics_from=tuple(inputs["metricsFrom"]),
        **given,
    )


def _foreseen(inputs: Values) -> Values:
    """What follows from the inputs alone."""
    outputs: Values = {**dict.fromkeys(_OUTPUTS, UNKNOWN), "status": _SERVING}
    if not is_unknown([inputs["serverNames"], inputs["address"], inputs["httpsPort"]]):
        names = [name for name in inputs["serverNames"] if name not in ("_", "localhost")]
        host = next((name for name in names if "*" not in name), inputs["address"])
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        port = "" if inputs["httpsPort"] == 443 else f":{inputs['httpsPort']}"
        outputs["url"] = f"https://{host}{port}"
    wanted = {n: v for n, v in inputs.items() if n not in hosts.ACCESS}
    if not is_unknown(wanted):
        outputs["siteSha256"] = hashlib.sha256(_site(inputs).render().encode()).hexdigest()
        if "certificate" in inputs:
            outputs["notAfter"] = _end(inputs["certificate"].encode())
    return outputs


def _end(certificate: bytes | None) -> str | None:
    """When it ends (RFC 3339)."""
    from cryptography import x509

    try:
        parsed = x509.load_pem_x509_certificates(certificate or b"")
    except ValueError:
        return None
    return parsed[0].not_valid_after_utc.isoformat(timespec="seconds")


def _acme_defaults(given: Values) -> Values:
    try:
        from sixways.server.acme import LETS_ENCRYPT
    except ImportError:  # asyncssh
        raise MissingExtra("a host over ssh", "ssh") from None
    return {"directoryUrl": LETS_ENCRYPT, **given}
