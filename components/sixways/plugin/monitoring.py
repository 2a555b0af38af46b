"""`sixways:server:Monitoring`: Prometheus on a host over ssh, which watches servers."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from sixways.checks import Checks
from sixways.naming import to_snake
from sixways.observability.files import DASHBOARD, RULES, SCRAPE
from sixways.observability.prometheus import BOUNDS, RUNBOOK, Target, burns
from sixways.observability.slo import Slo, check_slo
from sixways.plugin.hosts import (
    ACCESS,
    ACCESS_DEFAULTS,
    SECRETS,
    check_access,
    host,
    leaving,
    ssh_library,
)
from sixways.plugin.resource import Call, Changes, PartlyMade, Resource, Values, unexpected
from sixways.plugin.values import UNKNOWN, is_unknown
from sixways_bundle import BundleError, Problem

if TYPE_CHECKING:
    from sixways.server.watching import Watch

_OWN = (
    "owner", "name", "targets", "ca", "serverName", "slo", "prometheusPort", "scrapeSeconds",
    "retentionDays", "storageGb", "nodeExporter", "dcgmExporter", "alertmanagers", "runbookUrl",
    "grafana", "grafanaPassword",
)  # fmt: skip
_INPUTS = (*ACCESS, *_OWN)
_DEFAULTS: Values = {
    **ACCESS_DEFAULTS, "slo": {}, "prometheusPort": 9090, "scrapeSeconds": 15, "retentionDays": 15,
    "storageGb": 5, "nodeExporter": False, "dcgmExporter": False, "alertmanagers": [],
    "runbookUrl": RUNBOOK, "grafana": False,
}  # fmt: skip
_OUTPUTS = ("url", "grafanaUrl", "scrape", "rules", "dashboard", "filesSha256", "status", "holder")
_NUMBERS = {"prometheusPort": (1024, 65535), "scrapeSeconds": (1, 300), "retentionDays": (1, 3650),
            "storageGb": (1, 100_000)}  # fmt: skip
_TEXTS = {
    "owner": (re.compile(r"\S.*"), "project and stack, e.g. shop/prod"),
    "name": (re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}"), "letters, digits, '_' and '-'"),
    "serverName": (re.compile(r"[A-Za-z0-9*.:-]+"), "a name in the hosts' certificates"),
    "runbookUrl": (re.compile(r"[^\s'\"]+"), "the address of a page"),
    "ca": (re.compile(r"(?s).*-----BEGIN CERTIFICATE-----.*"), "certificates (PEM)"),
}
_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
AT = re.compile(r"[A-Za-z0-9.\[\]:-]+:\d{1,5}")
"""Address and port of an Alertmanager."""
PASSWORD = re.compile(r"[!#-&(-\[\]-~]{12,}")
"""A password of Grafana: it stands in a file of variables."""
_WORKS = "watches"


class MonitoringResource(Resource):
    """Prometheus as a unit of its own, its rules, and what Grafana needs; its id is the address."""

    token = "sixways:server:Monitoring"  # noqa: S105 - a type token, no secret
    secrets = SECRETS | {"grafanaPassword"}

    def check(self, call: Call, inputs: Values) -> tuple[Values, list[Problem]]:
        """Checks all inputs; the host is looked at when it is reached."""
        checked = {**_DEFAULTS, **inputs}
        found = unexpected(inputs, _INPUTS) + check_access(checked)
        checks = Checks()
        for name, (least, most) in _NUMBERS.items():
            if checked[name] is not UNKNOWN:
                checks.number(name, checked[name], least, most, whole=True)
        for name, (form, accepted) in _TEXTS.items():
            value = checked.get(name, "" if name in ("owner", "name") else None)
            if value not in (None, UNKNOWN) and not (
                isinstance(value, str) and form.fullmatch(value)
            ):
                checks.add(name, value, accepted, "correct it")
        for name in ("nodeExporter", "dcgmExporter", "grafana"):
            if checked[name] not in (True, False, UNKNOWN):
                checks.add(name, checked[name], "true or false")
        _check_targets(checks, checked.get("targets"))
        _check_objective(checks, checked)
        managers = checked["alertmanagers"]
        for index, value in enumerate(managers if isinstance(managers, list) else ()):
            if value is not UNKNOWN and not AT.fullmatch(str(value)):
                checks.add(f"alertmanagers[{index}]", value, "ADDRESS:PORT")
        password = checked.get("grafanaPassword")
        if checked["grafana"] is True and password is not UNKNOWN and not _is_password(password):
            checks.add("grafanaPassword", "(not shown)" if password else None,
                       "12 printable characters or more, without spaces and quotes",
                       "give one, as a secret")  # fmt: skip
        return checked, [*found, *checks.problems]

    def diff(self, call: Call, state: Values, inputs: Values) -> Changes:
        """Another address is another host; all else changes in place."""
        update = [n for n in _INPUTS if n != "address" and state.get(n) != inputs.get(n)]
        if state.get("status") != _WORKS:
            update.append("status")
        # Another version of this package may write other files from the same inputs.
        if not update and state.get("filesSha256") != _foreseen(inputs)["filesSha256"]:
            update.append("filesSha256")
        return Changes(update, ["address"] if state["address"] != inputs["address"] else [])

    def create(self, call: Call, inputs: Values, *, preview: bool) -> tuple[str, Values]:
        """Installs it and starts it; a create that fails leaves nothing but packages."""
        if preview:
            return "", {**inputs, **_foreseen(inputs)}
        try:
            own = self._apply(call, inputs, {})
        except BundleError as error:
            if _is_there(inputs):
                outputs = {**inputs, **_foreseen(inputs), "status": "not ready", "holder": ""}
                raise PartlyMade(error, inputs["address"], outputs) from None
            raise
        return inputs["address"], {**inputs, **_foreseen(inputs), "holder": own}

    def read(self, call: Call, resource_id: str, state: Values) -> Values | None:
        """The state as it is: a changed file, or a unit that does not run, is drift."""
        if "filesSha256" not in state:
            raise BundleError("monitoring cannot be imported. Fix: declare it and run pulumi up, "
                              "which writes it anew")  # fmt: skip
        with host(state) as remote:
            from sixways.server import watching

            mark = watching.load(remote)
            if mark is None or mark.owner != state["owner"]:
                return None
            status = watching.difference(remote, _watch(state)) or _WORKS
        if status != _WORKS:
            call.log("warning", f"{status}; the next update mends it.", False)
        return {**state, "status": status}

    def update(self, call: Call, state: Values, inputs: Values, *, preview: bool) -> Values:
        """Writes what changed; Prometheus is restarted only where its flags are others."""
        own = state.get("holder") if preview else self._apply(call, inputs, state)
        return {**inputs, **_foreseen(inputs), "holder": own}

    def delete(self, call: Call, resource_id: str, state: Values) -> None:
        """Takes away unit, files and data; what is another stack's by now stays."""
        with leaving(call), host(state) as remote:
            from sixways.server import holder, watching

            mark = watching.load(remote)
            taken = holder.is_anothers(remote, watching.HOLDER, state.get("holder", ""))
            if mark is not None and mark.owner == state["owner"] and not taken:
                call.status("remove Prometheus' unit, files and data")
                watching.remove(remote)

    def _apply(self, call: Call, inputs: Values, state: Values) -> str:
        """Returns what the resource is known by on the host."""
        with host(inputs) as remote:
            from sixways.server import holder, watching

            owners = (inputs["owner"], str(state.get("owner", inputs["owner"])))
            watching.apply(remote, _watch(inputs), owners, call.status)
            own = str(state.get("holder") or holder.new())
            holder.take(remote, watching.HOLDER, own)
        return own


def _watch(inputs: Values) -> Watch:
    with ssh_library():
        from sixways.server.watching import Watch

    optional = {"ca": inputs.get("ca"), "server_name": inputs.get("serverName"),
                "grafana_password": inputs.get("grafanaPassword")}  # fmt: skip
    return Watch(
        name=inputs["name"],
        owner=inputs["owner"],
        slo=_slo(inputs),
        targets=tuple(Target(**target) for target in inputs["targets"]),
        port=inputs["prometheusPort"],
        scrape_seconds=inputs["scrapeSeconds"],
        retention_days=inputs["retentionDays"],
        storage_gb=inputs["storageGb"],
        node_exporter=inputs["nodeExporter"],
        dcgm_exporter=inputs["dcgmExporter"],
        alertmanagers=tuple(inputs["alertmanagers"]),
        runbook=inputs["runbookUrl"],
        grafana=inputs["grafana"],
        **optional,
    )


def _slo(inputs: Values) -> Slo:
    return Slo.of({to_snake(name): value for name, value in inputs["slo"].items()})  # type: ignore[arg-type]


def _foreseen(inputs: Values) -> Values:
    """What follows from the inputs alone."""
    if is_unknown([inputs[name] for name in _OWN if name in inputs]):
        return {**dict.fromkeys(_OUTPUTS, UNKNOWN), "status": _WORKS}
    watch = _watch(inputs)
    shown = watch.shown()
    files = {path: file.text for path, file in watch.files("prometheus").items()}
    return {
        "url": f"http://127.0.0.1:{watch.port}",
        "grafanaUrl": "http://127.0.0.1:3000" if watch.grafana else "",
        "scrape": shown[SCRAPE],
        "rules": shown[RULES],
        "dashboard": shown[DASHBOARD],
        "filesSha256": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
        "status": _WORKS,
    }


def _is_there(inputs: Values) -> bool:
    """Whether a create that failed left something after all."""
    try:
        with host(inputs) as remote:
            from sixways.server import watching

            mark = watching.load(remote)
            return mark is not None and mark.owner == inputs["owner"]
    except BundleError:
        return False


def _check_targets(checks: Checks, targets: Any) -> None:
    if targets is UNKNOWN:
        return
    if not (isinstance(targets, list) and targets):
        checks.add("targets", targets, "a list of hosts, each with name and address", "add one")
        return
    names = set()
    for index, target in enumerate(targets):
        at = f"targets[{index}]"
        if target is UNKNOWN:
            continue
        if not isinstance(target, dict):
            checks.add(at, target, "name, address and perhaps port")
            continue
        for key in sorted(set(target) - {"name", "address", "port"}):
            checks.add(f"{at}.{key}", key, "address, name, port", "correct or remove the name")
        name, address = target.get("name", ""), target.get("address", "")
        if name is not UNKNOWN and not (isinstance(name, str) and name.strip()):
            checks.add(f"{at}.name", name, "a name")
        elif name in names:
            checks.add(f"{at}.name", name, "each name once", "rename one of them")
        names.add(name)
        if address is not UNKNOWN and not _ADDRESS.fullmatch(str(address)):
            checks.add(f"{at}.address", address, "an IP address or a name")
        if target.get("port") is not UNKNOWN:
            checks.number(f"{at}.port", target.get("port"), 1, 65535, whole=True)


def _check_objective(checks: Checks, inputs: Values) -> None:
    given = inputs["slo"]
    if is_unknown(given):
        return
    if not isinstance(given, dict):
        checks.add("slo", given, "a mapping")
        return
    before = len(checks.problems)
    check_slo(checks, {to_snake(name): value for name, value in given.items()})
    if len(checks.problems) > before:
        return
    slo = _slo(inputs)
    if slo.latency_ms > BOUNDS[-1] * 1000:
        checks.add("slo.latency_ms", slo.latency_ms, f"up to {BOUNDS[-1] * 1000:g}, the longest "
                   "that the server's histogram tells apart", "lower it")  # fmt: skip
    days = inputs["retentionDays"]
    longest = max(burn.long_s for burn in burns(slo)) / 86400
    if isinstance(days, int) and days < longest:
        checks.add("retentionDays", days, f"{longest:g} or more, the longest window of an alert",
                   "raise it, or lower slo.window_minutes")  # fmt: skip


def _is_password(value: object) -> bool:
    return isinstance(value, str) and PASSWORD.fullmatch(value) is not None
