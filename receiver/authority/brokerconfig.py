"""The broker's rules, written out: who is let in, what each may read and write, how much of everything.

A certificate of the authority is the only way in, its common name is the user, and a device's name stands in its
topics: so one pattern for each topic is the whole of the rules. Written for Mosquitto 2; `emqx.conf` and `emqx.acl` say
the same to EMQX 5.
"""

from pathlib import Path
from typing import Final

from agent.messages import PROBE, ROOT

# Common names of the receivers' certificates, one for each process: no device is called so, and a name connects once.
RECEIVERS: Final = tuple(f"roadwitness-receiver-{n}" for n in range(1, 9))
WRITES: Final = ("up/+", "birth", "status", "live", "file/#")  # of a device …
READS: Final = ("ack", "command", "consent", "files")  # … under its own name; and its doctor's PROBE both ways
# A batch has 64 KiB at most, an answer about files as much; topic and properties come on top (agent.link.MAX_PACKET).
MOST_PACKET: Final = 128 * 1024
# of `receiver.settings.ReceiverBrokerSettings.in_flight`; a device says 16 for itself
MOST_IN_FLIGHT: Final = 256
MOST_QUEUED: Final = 1000  # for a car that is away: commands and answers, the newest of which counts
MOST_QUEUED_BYTES: Final = 8 * 1024 * 1024


def write(folder: Path, root: bytes, revoked: Path, certificate: str, key: str, port: int) -> list[Path]:
    """Write all files of the broker's configuration into a folder, and return them; raise OSError.

    `root` is the authority's certificate (PEM), `revoked` where the list of revoked ones is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    here, crl = folder.absolute(), revoked.absolute()
    made = {
        "ca.crt": root.decode(),
        "mosquitto.conf": _mosquitto(here, crl, certificate, key, port),
        "mosquitto.acl": acl(),
        "emqx.conf": _emqx(here, certificate, key, port),
        "emqx.acl": _emqx_acl(),
    }
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in made]


def acl() -> str:
    """Return Mosquitto's access rules."""
    lines = [
        "# Written by `roadwitness receiver broker-config`. %u is the common name of the certificate; whatever does",
        "# not stand here is refused.",
        *(f"pattern write {ROOT}/%u/{what}" for what in WRITES),
        *(f"pattern read {ROOT}/%u/{what}" for what in READS),
        f"pattern readwrite {ROOT}/%u/{PROBE}",
    ]
    for name in RECEIVERS:
        lines += ["", f"user {name}"]
        lines += [f"topic read {ROOT}/+/{what}" for what in WRITES]
        lines += [f"topic write {ROOT}/+/{what}" for what in READS]
    return "\n".join(lines) + "\n"


def _mosquitto(folder: Path, crl: Path, certificate: str, key: str, port: int) -> str:
    return f"""# Written by `roadwitness receiver broker-config` for Mosquitto 2: mosquitto -c {folder}/mosquitto.conf
# SIGHUP (systemctl reload mosquitto) reads the access rules, the server's certificate and the list of revoked ones
# again. Who is connected stays so: after a revocation that must hold at once, restart it; the receiver takes nothing
# of a blocked device in any case.
per_listener_settings true
persistence true
persistence_location /var/lib/mosquitto/
autosave_interval 60
# What is larger than any message of ours ends its connection.
max_packet_size {MOST_PACKET}
max_inflight_messages {MOST_IN_FLIGHT}
# What waits for a device that is away; nothing of it is the only copy.
max_queued_messages {MOST_QUEUED}
max_queued_bytes {MOST_QUEUED_BYTES}
persistent_client_expiration 30d
set_tcp_nodelay true

listener {port}
allow_anonymous false
# A certificate of this authority, that has not ended and was not revoked; its common name is the user, and the client
# too: otherwise one box could connect under the name of another and throw it out.
require_certificate true
use_identity_as_username true
use_username_as_clientid true
# TLS 1.2 at least.
tls_version tlsv1.2
cafile {folder / "ca.crt"}
crlfile {crl}
certfile {certificate}
keyfile {key}
acl_file {folder / "mosquitto.acl"}
"""


def _emqx(folder: Path, certificate: str, key: str, port: int) -> str:
    return f"""# Written by `roadwitness receiver broker-config` for EMQX 5; add it to emqx.conf. The rules are those of
# mosquitto.conf, but nobody has run them against EMQX yet: check them there before cars depend on it.
mqtt {{
  peer_cert_as_username = cn
  peer_cert_as_clientid = cn
  max_packet_size = {MOST_PACKET // 1024}KB
  max_inflight = {MOST_IN_FLIGHT}
  max_mqueue_len = {MOST_QUEUED}
}}
listeners.tcp.default.enable = false
listeners.ws.default.enable = false
listeners.wss.default.enable = false
listeners.ssl.default {{
  bind = "0.0.0.0:{port}"
  ssl_options {{
    cacertfile = "{folder / "ca.crt"}"
    certfile = "{certificate}"
    keyfile = "{key}"
    verify = verify_peer
    fail_if_no_peer_cert = true
    versions = ["tlsv1.3", "tlsv1.2"]
  }}
}}
# EMQX fetches lists of revoked certificates by http from the address in a certificate, and ours name none: revoke by
# banning the user there too (Access Control, Banned Clients); the receiver takes nothing of a blocked device.
authorization {{
  no_match = deny
  deny_action = disconnect
  sources = [{{ type = file, enable = true, path = "{folder / "emqx.acl"}" }}]
}}
"""


def _emqx_acl() -> str:
    def listed(topics: tuple[str, ...], name: str) -> str:
        return ", ".join(f'"{ROOT}/{name}/{what}"' for what in topics)

    own, every = "${username}", "+"
    receivers = "".join(
        f"""{{allow, {{user, "{name}"}}, subscribe, [{listed(WRITES, every)}]}}.
{{allow, {{user, "{name}"}}, publish, [{listed(READS, every)}]}}.
"""
        for name in RECEIVERS
    )
    return f"""%% Written by `roadwitness receiver broker-config` for EMQX 5.
{receivers}\
{{allow, all, publish, [{listed((*WRITES, PROBE), own)}]}}.
{{allow, all, subscribe, [{listed((*READS, PROBE), own)}]}}.
{{deny, all}}.
"""
