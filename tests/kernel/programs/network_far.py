"""The far side: an authority, certificates, Mosquitto by the rules that we write for it, cars it knows, a receiver.

Arguments: the folder, and the number of cars; a car's broker has the address 10.7.N.1. It runs until its input ends.
"""

import logging
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from agent import clock
from agent.store import Store
from receiver import db, devices
from receiver.authority import brokerconfig, folder, issuing, revoking
from receiver.authority.settings import EnrolmentSettings
from receiver.filestore import FileStore
from receiver.mqtt import Reception
from receiver.settings import FileSettings, ReceiverBrokerSettings, ReceiverSettings

here, cars = Path(sys.argv[1]), int(sys.argv[2])
here.mkdir(parents=True)
now_ns = clock.wall_ns()
authority = folder.make(here / "authority", "Bench", now_ns)
url = f"sqlite:///{here / 'receiver.db'}"
settings = ReceiverSettings(
    database=url, enrolment=EnrolmentSettings(folder=str(here / "authority"), crl=str(here / "crl.pem"))
)
engine = db.open_database(url)


def pair(kind: issuing.Kind, name: str, where: Path, hosts: tuple[str, ...] = ()) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    where.with_suffix(".crt").write_text(issuing.issue(authority, kind, name, key.public_key(), 30, now_ns, hosts).pem)
    where.with_suffix(".key").write_bytes(folder.pem_of(key))


for n in range(cars):
    with Store.open(here / f"car{n}") as store:
        devices.enrol(engine, store.public_key.hex())
        pair("device", store.device, here / f"car{n}/tls")
        (here / f"car{n}/name").write_text(store.device)
pair("server", "bench", here / "server", ("127.0.0.1", *(f"10.7.{n}.1" for n in range(cars))))
receiver = brokerconfig.RECEIVERS[0]
pair("receiver", receiver, here / "receiver")
listed = revoking.write(engine, settings, now_ns)
root = folder.root_pem(here / "authority")
brokerconfig.write(here / "broker", root, listed, str(here / "server.crt"), str(here / "server.key"), 8883)
text = (here / "broker/mosquitto.conf").read_text().replace("persistence true", "persistence false")
(here / "mosquitto.conf").write_text(f"{text}user root\nlog_dest file {here}/broker.log\nlog_type all\n")
mosquitto = subprocess.Popen(["mosquitto", "-c", str(here / "mosquitto.conf")])
broker = ReceiverBrokerSettings(
    url="mqtts://127.0.0.1:8883",
    ca=here / "authority/root.crt",
    certificate=here / "receiver.crt",
    key=here / "receiver.key",
)
logging.basicConfig(level=logging.INFO)
reception = Reception(engine, broker, files=FileStore(FileSettings(root=str(here / "files")), url))
reception.start()
reception.connected.wait()
print("receiving", flush=True)
sys.stdin.read()
reception.stop()
mosquitto.terminate()
mosquitto.wait()
engine.dispose()
