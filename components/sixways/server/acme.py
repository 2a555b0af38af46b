"""Certificates from an ACME server, by certbot on the host; certbot's own timer renews them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sixways.server import host_site, layout
from sixways.server.nginx import File
from sixways.server.ssh import HostError, Remote

NAME = "sixways"
"""certbot's name of the certificate."""
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
HOOK = f"{layout.ETC}/acme-deploy"
_RENEWAL = f"/etc/letsencrypt/renewal/{NAME}.conf"
_TIMERS = ("certbot.timer", "certbot-renew.timer")
"""Debian's and EPEL's."""
_SECONDS = 300.0
HOOK_FILE = File(
    f"""#!/bin/sh
# certbot calls this when it has another certificate: Nginx takes it up.
set -eu
cp "$RENEWED_LINEAGE/fullchain.pem" {host_site.CERTIFICATE}.new
(umask 077; cp "$RENEWED_LINEAGE/privkey.pem" {host_site.CERTIFICATE_KEY}.new)
chmod 600 {host_site.CERTIFICATE_KEY}.new
mv {host_site.CERTIFICATE}.new {host_site.CERTIFICATE}
mv {host_site.CERTIFICATE_KEY}.new {host_site.CERTIFICATE_KEY}
nginx -t -q
nginx -s reload
""",
    0o755,
)


@dataclass(frozen=True)
class Acme:
    """Which certificate, and from whom.

    Attributes:
        email: whom the server's owner writes to.
        domains: the names it is for; the host is reached by each, on port 80.
        directory_url: the ACME server.
    """

    email: str
    domains: Sequence[str]
    directory_url: str = LETS_ENCRYPT


def obtain(
    remote: Remote, acme: Acme, on_line: Callable[[str], None], *, anew: bool = False
) -> None:
    """Gets the certificate, if it is not there or near its end, and has it renewed from then on.

    Nginx serves the challenges already.

    Args:
        remote: the host.
        acme: what is wanted.
        on_line: is told what certbot says.
        anew: whether a certificate that is there does not count.

    Raises:
        HostError: certbot is not there, or did not get it; with what it says.
    """
    if not remote.run("sh", "-c", "command -v certbot", check=False).ok:
        raise HostError(
            f"{remote.access}: certbot is not there. Fix: set acme on the host's resource, which "
            "installs it"
        )
    domains = [word for domain in acme.domains for word in ("-d", domain)]
    done = remote.run(
        "certbot", "certonly", "--non-interactive", "--agree-tos", "--no-eff-email",
        "--email", acme.email, "--server", acme.directory_url, "--cert-name", NAME,
        "--webroot", "-w", host_site.CHALLENGES, "--deploy-hook", HOOK,
        "--force-renewal" if anew else "--keep-until-expiring", "--renew-with-new-domains",
        *domains, check=False, seconds=_SECONDS, on_line=on_line,
    )  # fmt: skip
    if not done.ok:
        raise HostError(
            f"{remote.access}: no certificate for {', '.join(acme.domains)} from "
            f"{acme.directory_url}: {(done.stderr + done.stdout).strip()[-2000:]}"
        )
    lineage = f"/etc/letsencrypt/live/{NAME}"
    if remote.read(f"{lineage}/fullchain.pem") != remote.read(host_site.CERTIFICATE):
        # It was there before and is not new, so certbot did not call the hook.
        remote.run("env", f"RENEWED_LINEAGE={lineage}", HOOK)
    _renew_by_timer(remote)


def _renew_by_timer(remote: Remote) -> None:
    if not remote.exists("/run/systemd/system"):
        return
    for timer in _TIMERS:
        if remote.run("systemctl", "cat", timer, check=False).ok:
            remote.run("systemctl", "enable", "--now", "--quiet", timer)
            return
    raise HostError(f"{remote.access}: none of {', '.join(_TIMERS)} is there to renew certificates")


def leave(remote: Remote) -> None:
    """Takes away the certificate and what belongs to it; certbot and its account stay."""
    if remote.exists(_RENEWAL):
        remote.run("certbot", "delete", "--non-interactive", "--cert-name", NAME)
    remote.remove(HOOK, host_site.CHALLENGES)


def kept(remote: Remote) -> bool:
    """Whether certbot has the certificate, and renews it."""
    return remote.exists(_RENEWAL) and remote.read(HOOK) == HOOK_FILE.text.encode()
