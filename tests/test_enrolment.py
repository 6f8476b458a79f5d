"""Who is given a certificate and who is not: codes, proofs, revocation, addresses, dates, what stands on the disk."""

import json
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from agent import answers, chain, clock
from agent.cli.enrol import app as enrol_app
from agent.clock import NS_PER_S
from agent.enrolment import asking, keys
from agent.enrolment.enrol import renewed, signer_of, understood
from agent.enrolment.folder import TlsFolder
from agent.enrolment.settings import EnrolmentSettings
from agent.enrolmentmessages import (
    ENROL,
    MOST_BYTES,
    PATH,
    RENEW,
    RENEWAL_PATH,
    Ask,
    Code,
    ask_bytes,
    encode_ask,
    read_code,
)
from agent.errors import ConfigError, RoadwitnessError, StoreError, UplinkError
from agent.settings import load_agent
from agent.tls import Moment, check_dates
from receiver import devices
from receiver.authority import codes, enrolling, folder, issuing
from receiver.authority.command import app as ca_app
from receiver.authority.enrolling import MOST_A_DAY, RefusedError
from receiver.authority.folder import AuthorityError
from receiver.cli import app as receiver_app
from receiver.web import create_app
from tests.api import client
from tests.enrolling import DAY_NS, Insurer

NOW = clock.wall_ns()
LATER = NOW + 3600 * NS_PER_S


@pytest.fixture
def insurer(tmp_path: Path) -> Iterator[Insurer]:
    (tmp_path / "insurer").mkdir()
    made = Insurer(tmp_path / "insurer")
    yield made
    made.close()


def made(kind: keys.Kind) -> Any:
    return load_pem_private_key(keys.make(kind), None)


class Asker:
    """A box that asks as it likes, without a disk."""

    def __init__(self, seed: int = 1) -> None:
        self.key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = chain.public_bytes(self.key)
        self.device = chain.device_id(self.public)
        self.tls: Any = made("ed25519")

    def payload(self, prefix: bytes, code: str = "", proof: Any = None, **changed: Any) -> bytes:
        """Encode an ask; `proof` is the key of a certificate that signs it too."""
        request = changed.pop("request", None) or keys.request(self.tls, self.device)
        fields = {"device": self.device, "public_key": self.public.hex(), "request": request, "code": code}
        raw = ask_bytes(Ask(**{**fields, **changed}))
        return encode_ask(raw, self.key.sign(prefix + raw), b"" if proof is None else keys.sign(proof, prefix + raw))

    def enrol(self, insurer: Insurer, now_ns: int = NOW, **code: Any) -> x509.Certificate:
        payload = self.payload(ENROL, read_code(insurer.code(now_ns=now_ns, **code)).secret)
        granted = enrolling.enrol(insurer.engine, insurer.settings, payload, "127.0.0.1", now_ns)
        return x509.load_pem_x509_certificate(granted.certificate.encode())

    def renew(self, insurer: Insurer, now_ns: int, proof: Any = None) -> x509.Certificate:
        granted = enrolling.renew(insurer.engine, insurer.settings, self.payload(RENEW, proof=proof), now_ns)
        return x509.load_pem_x509_certificate(granted.certificate.encode())


def test_a_code_gives_a_certificate_of_weeks_under_the_name_that_the_record_key_proves(insurer: Insurer) -> None:
    for seed, kind in enumerate(keys.KINDS, 1):
        box = Asker(seed)
        box.tls = made(kind)
        given = box.enrol(insurer, device=box.device)
        assert given.subject.rfc4514_string() == f"CN={box.device}"
        assert given.public_key() == box.tls.public_key()
        assert (given.not_valid_after_utc - given.not_valid_before_utc).days == 30
        given.verify_directly_issued_by(insurer.authority.issuing)
        usage = given.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert [u.dotted_string for u in usage] == ["1.3.6.1.5.5.7.3.2"]
        assert devices.devices(insurer.engine)[-1].state == "accepted"


def _csr(key: Any) -> bytes:
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return x509.CertificateSigningRequestBuilder().subject_name(named).sign(key, algorithm).public_bytes(Encoding.DER)


def _broken(der: bytes) -> bytes:
    return der[:-1] + bytes([der[-1] ^ 1])


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (lambda b, i: b.payload(ENROL, "A" * 16), "the enrolment code is wrong"),
        (lambda b, i: b.payload(ENROL, _secret(i, hours=1, now_ns=NOW - 2 * 3600 * NS_PER_S)), "has ended"),
        (lambda b, i: b.payload(ENROL, _secret(i, device="rw-0000000000000000")), "is for another device"),
        (lambda b, i: b.payload(RENEW, _secret(i)), "not signed by its key"),  # signed, for another purpose
        (lambda b, i: b.payload(ENROL, _secret(i), device=Asker(2).device), "names another device"),
        (lambda b, i: b.payload(ENROL, _secret(i)).replace(b'"code":"', b'"code":"A'), "not signed by its key"),
        (lambda b, i: b.payload(ENROL, _secret(i), request=b"x"), "cannot be read"),
        (lambda b, i: b.payload(ENROL, _secret(i), request=_broken(_csr(b.tls))), "not signed by its own key"),
        (
            lambda b, i: b.payload(ENROL, _secret(i), request=_csr(rsa.generate_private_key(65537, 2048))),
            "another kind",
        ),
        (
            lambda b, i: b.payload(ENROL, _secret(i), request=_csr(ec.generate_private_key(ec.SECP384R1()))),
            "another kind",
        ),
        (lambda b, i: b.payload(ENROL, _secret(i), request=_csr(b.key)), "another one than the record key"),
        (lambda b, i: b"{}", "no request"),
        (lambda b, i: b"[" * 10_000, "no request"),
        (lambda b, i: b" " * (MOST_BYTES + 1), "too large"),
    ],
)
def test_no_certificate_is_had_otherwise(insurer: Insurer, what: Callable[[Asker, Insurer], bytes], told: str) -> None:
    box = Asker()
    with pytest.raises(RefusedError, match=told):
        enrolling.enrol(insurer.engine, insurer.settings, what(box, insurer), "127.0.0.1", NOW)
    assert devices.devices(insurer.engine) == []


def _secret(insurer: Insurer, **code: Any) -> str:
    return read_code(insurer.code(**code)).secret


def test_a_code_is_used_once_but_a_lost_answer_may_be_asked_for_again(insurer: Insurer) -> None:
    box, thief, text = Asker(1), Asker(2), insurer.code(now_ns=NOW)
    payload = box.payload(ENROL, read_code(text).secret)
    first = enrolling.enrol(insurer.engine, insurer.settings, payload, "", NOW)
    assert enrolling.enrol(insurer.engine, insurer.settings, payload, "", NOW + 60 * NS_PER_S) == first
    with pytest.raises(RefusedError, match="was used"):
        enrolling.enrol(insurer.engine, insurer.settings, thief.payload(ENROL, read_code(text).secret), "", NOW + 1)
    with pytest.raises(RefusedError, match="was used"):
        enrolling.enrol(insurer.engine, insurer.settings, payload, "", NOW + codes.AGAIN_NS + 1)
    thief.tls = box.tls  # a key that was certified for another
    with pytest.raises(RefusedError, match="certified before"):
        thief.enrol(insurer)
    with insurer.engine.begin() as connection:
        kept = codes.listed(connection)
    assert read_code(text).secret not in str(kept)
    assert {row.used_by for row in kept} == {box.device, ""}  # what was refused used no code up


def test_the_next_certificate_needs_the_key_of_the_last_while_that_counts(insurer: Insurer) -> None:
    box = Asker()
    box.enrol(insurer)
    first, box.tls = box.tls, made("p256")
    for proof in (None, made("ed25519"), made("p256"), box.key):
        with pytest.raises(RefusedError, match="did not sign"):
            box.renew(insurer, LATER, proof)
    second = box.renew(insurer, LATER, first)
    assert box.renew(insurer, LATER + 1, first) == second  # the answer was lost: the same certificate
    box.tls, before = made("ed25519"), box.tls
    assert box.renew(insurer, LATER + 2, before) != second
    # a car that stood for months: the record key suffices
    box.tls = made("ed25519")
    assert box.renew(insurer, NOW + 200 * DAY_NS).subject.rfc4514_string() == f"CN={box.device}"
    for _ in range(MOST_A_DAY - 1):
        box.tls, before = made("ed25519"), box.tls
        box.renew(insurer, NOW + 200 * DAY_NS + 1, before)
    box.tls, before = made("ed25519"), box.tls
    with pytest.raises(RefusedError, match="within a day"):
        box.renew(insurer, NOW + 200 * DAY_NS + 2, before)


def test_who_is_unknown_blocked_or_revoked_is_given_nothing_until_a_person_acts(insurer: Insurer) -> None:
    box = Asker()
    with pytest.raises(RefusedError, match="enrol it with a code"):
        box.renew(insurer, NOW)
    box.enrol(insurer)
    first, box.tls = box.tls, made("ed25519")
    devices.block(insurer.engine, box.device)
    for what in (lambda: box.renew(insurer, LATER, first), lambda: box.enrol(insurer)):
        with pytest.raises(RefusedError, match="is blocked"):
            what()
    with insurer.engine.begin() as connection:
        assert len(enrolling.revoked(connection, LATER)) == 1  # blocked is revoked
    devices.enrol(insurer.engine, box.device)
    with insurer.engine.begin() as connection:
        assert enrolling.revoked(connection, LATER) == []
        assert enrolling.revoke(connection, box.device, "stolen", LATER) == 1
        assert enrolling.revoke(connection, box.device, "stolen", LATER) == 0
        (listed,) = enrolling.revoked(connection, LATER)
        assert enrolling.revoked(connection, NOW + 40 * DAY_NS) == []  # it has ended by itself
    crl = x509.load_pem_x509_crl(issuing.crl(insurer.authority, [listed], LATER))
    assert crl.is_signature_valid(insurer.authority.key.public_key())  # type: ignore[arg-type]
    assert [f"{r.serial_number:x}" for r in crl] == [listed.serial]
    for when in (LATER, NOW + 200 * DAY_NS):  # nor by the record key, once it has ended
        with pytest.raises(RefusedError, match="was revoked"):
            box.renew(insurer, when, first)
    box.enrol(insurer)


def test_over_http_the_address_is_slowed_down_and_problems_are_told(insurer: Insurer) -> None:
    app = create_app(insurer.engine, insurer.settings, lambda: NOW)
    box, stranger = Asker(), client(app)
    json_ = {"Content-Type": "application/json"}
    assert stranger.get(f"{PATH}/authority").content == folder.root_pem(insurer.path / "authority")
    good = stranger.post(PATH, content=box.payload(ENROL, _secret(insurer, now_ns=NOW)), headers=json_)
    assert (good.status_code, good.json()["device"], good.json()["broker"]) == (201, box.device, insurer.broker)
    assert stranger.post(PATH, content=b"x" * (MOST_BYTES + 1), headers=json_).status_code == 413
    assert stranger.get(PATH).status_code == 405
    renewal = stranger.post(RENEWAL_PATH, content=Asker(2).payload(RENEW), headers=json_)
    assert (renewal.status_code, renewal.headers["content-type"]) == (403, "application/problem+json")
    statuses = [stranger.post(PATH, content=b"{}", headers=json_).status_code for _ in range(25)]
    assert statuses[0] == 422
    assert statuses[-1] == 429
    other = Insurer.__new__(Insurer)
    other.settings = replace(insurer.settings, enrolment=replace(insurer.settings.enrolment, folder="/nonexistent"))
    bare = client(create_app(insurer.engine, other.settings, lambda: NOW + DAY_NS))
    assert bare.get(f"{PATH}/authority").status_code == 404
    assert bare.post(PATH, content=box.payload(ENROL), headers=json_).status_code == 503


def test_a_box_enrols_over_https_by_what_the_code_says_of_the_authority(insurer: Insurer, tmp_path: Path) -> None:
    pair = insurer.pair("server", "127.0.0.1", ("127.0.0.1",))
    address = insurer.pages(certificate=str(pair["certificate"]), key=str(pair["key"]))
    box = tmp_path / "box"
    with pytest.raises(UplinkError, match="its certificate is not trusted"):  # no system authority knows it
        insurer.enrol(box, address, insurer.code())
    with pytest.raises(UplinkError, match="somebody stands between"):
        insurer.enrol(box, address, insurer.code(mark="A" * 16))
    with pytest.raises(UplinkError, match="somebody stands between"):
        insurer.enrol(box, address, insurer.code(mark=insurer.mark), fingerprint="0" * 64)
    assert not (box / "tls" / "device.crt").exists()
    config = tmp_path / "agent.toml"
    config.write_text("# mine\n[sync]\nwindow = 3  # few\n")
    asked = ["--receiver", address, "--code", insurer.code(mark=insurer.mark).lower().replace("-", " ")]
    done = CliRunner().invoke(enrol_app, [*asked, "--config", str(config), "--store", str(box), "--json"])
    assert done.exit_code == 0, done.output
    settings = load_agent(config)
    assert json.loads(done.stdout)["device"] == signer_of(box).device
    assert (settings.broker.url, settings.broker.ca) == (insurer.broker, box / "tls" / "ca.crt")
    assert (settings.enrolment, settings.sync.window) == (
        EnrolmentSettings(receiver=address, ca=box / "tls" / "ca.crt"),
        3,
    )
    assert len(settings.commands.keys) == 1
    assert config.read_text().startswith("# mine\n[sync]\nwindow = 3  # few\n")
    assert answers.Belief(box, settings.commands.keys).strict
    assert {oct(p.stat().st_mode & 0o777) for p in (box / "tls").rglob("*.key")} == {"0o600"}
    # the pages' certificate has ended by what the box knows: told, and nothing is switched off
    tls, signer = TlsFolder(box), signer_of(box)
    for moment in (Moment(NOW + 40 * DAY_NS), Moment(NOW + 40 * DAY_NS, True), Moment(NOW - 9 * DAY_NS, True)):
        with pytest.raises(UplinkError, match=r"it ended at|it begins at"):
            renewed(tls, signer, address, tls.ca, "p256", moment)
    tls.drop_next()
    renewed(tls, signer, address, tls.ca, "p256", Moment())  # it is 1970 in the box: what it knows is a bound
    tls.put_in_force()
    assert isinstance(tls.key(), ec.EllipticCurvePrivateKey)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://desk.example", "https://desk.example"),
        ("ftp://desk.example", "https://desk.example"),
        ("desk.example", "not the address of a receiver"),
        ("https://a:b@desk.example", "not the address of a receiver"),
        ("https://desk.example/x", "not the address of a receiver"),
        ("http://127.0.0.1.example", "would go unencrypted"),
    ],
)
def test_an_address_that_would_not_be_private_is_refused(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        EnrolmentSettings(receiver=text)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("ABCD-EFGH-JKLM-NPQR", Code("ABCDEFGHJKLMNPQR")),
        (" abcd efgh jklm npqr ", Code("ABCDEFGHJKLMNPQR")),
        ("ABCDEFGHJKLMNPQR-2345-6789-ABCD-EFGH", Code("ABCDEFGHJKLMNPQR", "23456789ABCDEFGH")),
        ("ABCD-EFGH-JKLM", "has 12 letters"),
        ("ABCD-EFGH-JKLM-NPQ0", "has '0'"),
        ("", "has 0 letters"),
    ],
)
def test_codes_are_read_as_people_type_them(text: str, read: Any) -> None:
    if isinstance(read, Code):
        assert read_code(text) == read
        assert read_code(str(read)) == read
    else:
        with pytest.raises(RoadwitnessError, match=read):
            read_code(text)


@pytest.mark.parametrize(
    ("begins_days", "ends_days", "at_days", "sure", "taken"),
    [
        (-1, 9, 0, True, True),
        (-9, -1, 0, True, False),
        (1, 9, 0, True, False),
        (1, 9, 0, False, True),  # it may be later than the box can know
        (-9, -1, 0, False, False),  # it is not earlier
        (-9, -1, -2, True, True),  # the machine's clock is a day ahead of what satellites say
    ],
)
def test_dates_are_judged_by_what_is_known(
    insurer: Insurer, begins_days: int, ends_days: int, at_days: int, sure: bool, taken: bool
) -> None:
    begins = NOW + begins_days * DAY_NS
    made = insurer.pair("server", "x", ("x",), days=ends_days - begins_days, at_ns=begins)
    der = x509.load_pem_x509_certificate(made["certificate"].read_bytes()).public_bytes(Encoding.DER)
    moment = Moment(NOW + at_days * DAY_NS, sure)
    if taken:
        check_dates(der, moment)
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            check_dates(der, moment)


def test_wherever_the_power_goes_the_pair_on_disk_fits(
    insurer: Insurer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = TlsFolder(tmp_path)

    def grant() -> None:
        tls.drop_next()
        key = tls.next_key("ed25519")
        issued = issuing.issue(insurer.authority, "device", "x", key.public_key(), 9, NOW)
        tls.take_next(issued.pem, insurer.authority.root.public_bytes(Encoding.PEM).decode())

    grant()
    tls.put_in_force()
    left = 0
    for name in ("rename", "replace", "symlink"):
        real = getattr(os, name)

        def fail(*args: Any, real: Any = real) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(5, "power")
            real(*args)

        for calls in range(3):
            grant()
            left = calls
            monkeypatch.setattr(os, name, fail)
            try:
                tls.put_in_force()
            except StoreError as e:
                assert "check the disk" in str(e)  # noqa: PT017
            monkeypatch.undo()
            ssl.create_default_context(cafile=str(tls.ca)).load_cert_chain(*tls.pair)
    grant()
    tls.put_in_force()
    assert len([p for p in tls.path.iterdir() if p.name.isdigit()]) <= 2
    (tls.path / "next").mkdir()
    (tls.path / "next" / "device.key").write_text("half")
    assert isinstance(tls.next_key("p256"), ec.EllipticCurvePrivateKey)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"{}", "understands"),
        (b"\xff", "understands"),
        (b'{"device":"rw-0000000000000000","certificate":"","authority":"","broker":"mqtts://b","keys":[]}', "another"),
        (
            b'{"device":"rw-0000000000000001","certificate":"","authority":"","broker":"mqtt://b","keys":[]}',
            "mqtts://b",
        ),
    ],
)
def test_an_answer_that_cannot_be_used_is_told(answer: bytes, told: str) -> None:
    with pytest.raises(UplinkError, match=told):
        understood(answer, "rw-0000000000000001", "https://r")


def test_the_commands_of_the_authority(tmp_path: Path) -> None:
    toml = tmp_path / "receiver.toml"
    toml.write_text(f'database = "sqlite:///{tmp_path / "r.db"}"\n[broker]\nurl = "mqtts://b:8883"\n')
    run = CliRunner()

    def ran(app: Any, *words: str) -> Any:
        done = run.invoke(app, [*words, "--config", str(toml), "--json"])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return json.loads(done.stdout)

    with pytest.raises(AuthorityError, match="roadwitness ca init"):
        ran(ca_app, "list")
    plain = toml.read_text()
    toml.write_text(f'{plain}[enrolment]\ncrl = "{tmp_path / "gone" / "crl.pem"}"\n')
    with pytest.raises(AuthorityError, match=r"gone: is not there; make the folder that \[enrolment\] crl names first"):
        ran(ca_app, "init")
    toml.write_text(plain)  # nothing was made: the next one succeeds
    made = ran(ca_app, "init", "--name", "Insurer")
    assert {oct(p.stat().st_mode & 0o777) for p in Path(made["folder"]).glob("*.key")} == {"0o600"}
    with pytest.raises(AuthorityError, match="not made anew"):
        ran(ca_app, "init")
    server = ran(ca_app, "issue", "server", "b.example", "192.0.2.7", "--out", str(tmp_path))
    ran(ca_app, "issue", "receiver", "2", "--out", str(tmp_path))
    with toml.open("a") as file:
        file.write(f'[http]\ncertificate = "{server["certificate"]}"\nkey = "{server["key"]}"\n')
    code = read_code(ran(receiver_app, "enrolment-code", "--actor", "ann")["code"])
    assert len(code.mark) == 16  # the pages' certificate is of this authority
    box = Asker()
    (tmp_path / "box.csr").write_bytes(keys.request(box.tls, box.device))
    ran(receiver_app, "enrol", box.public.hex())
    given = ran(ca_app, "issue", "device", box.device, "--request", str(tmp_path / "box.csr"), "--out", str(tmp_path))
    listed = ran(ca_app, "list")["certificates"]
    assert sorted((c["kind"], c["subject"]) for c in listed) == [
        ("device", box.device),
        ("receiver", "roadwitness-receiver-2"),
        ("server", "b.example"),
    ]
    assert ran(ca_app, "revoke", given["serial"], "--reason", "lost")["revoked"] == 1
    assert {c["state"] for c in ran(ca_app, "list")["certificates"]} == {"revoked", "in force"}
    files = ran(receiver_app, "broker-config", str(tmp_path / "broker"))["files"]
    assert [Path(f).name for f in files] == ["ca.crt", "mosquitto.conf", "mosquitto.acl", "emqx.conf", "emqx.acl"]
    (Path(made["folder"]) / "root.key").rename(tmp_path / "safe")
    with pytest.raises(AuthorityError, match="put the root's key back"):
        ran(ca_app, "renew")
    for words in (["issue", "servr"], ["issue", "server"], ["issue", "receiver", "9"], ["revoke", "nobody"]):
        with pytest.raises(RoadwitnessError):
            ran(ca_app, *words)
    with pytest.raises(ConfigError, match="is no kind of key"):
        run.invoke(enrol_app, ["--receiver", "https://x", "--code", "x", "--key", "rsa"], catch_exceptions=False)
    with pytest.raises(UplinkError, match="64 hex digits"):
        asking.fingerprint("12:34")
