"""To whom the pages and the API are served: this machine alone, unless what goes out is encrypted."""

from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from agent.errors import ConfigError
from receiver.settings import HttpSettings

LOCAL: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


def check(http: HttpSettings) -> None:
    """Raise ConfigError where passwords would go unencrypted, or under a name that nobody was told."""
    if bool(http.certificate) != bool(http.key):
        raise ConfigError("[http]: certificate and key belong together; give both or neither")
    for name in ("certificate", "key"):
        path = getattr(http, name)
        if path and not Path(path).is_file():
            raise ConfigError(f"[http] {name} = {path!r}: no such file")
    if is_loopback(http.host):
        return
    if not http.certificate and not http.proxies:
        raise ConfigError(
            f"pages on {http.host}: passwords would go unencrypted; name certificate and key in [http], or in proxies"
            " the proxy that encrypts, or use 127.0.0.1 and a tunnel"
        )
    if not http.hosts:
        raise ConfigError(f"pages on {http.host}: name in [http] hosts under which names browsers ask for them")


def address(http: HttpSettings) -> str:
    """Return where people find the pages, with a slash at the end."""
    if http.hosts:
        port = f":{http.port}" if http.certificate and http.port != 443 else ""
        return f"https://{http.hosts[0]}{port}/"
    host = f"[{http.host}]" if ":" in http.host else http.host
    return f"{'https' if http.certificate else 'http'}://{host}:{http.port}/"


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def admitted(host: str, secure: bool, names: Collection[str]) -> bool:
    """Say whether a Host header is answered: only names of our own, and encrypted beyond this machine.

    A page of a stranger whose name leads here, DNS rebinding, comes under another name.
    """
    name, _, port = host.lower().rpartition(":")
    plain = name if port.isdigit() else host.lower()
    return plain in LOCAL or (secure and plain in names)
