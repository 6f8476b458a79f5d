"""T-EVID-7: a time-stamp by a third party holds for one manifest only; the authority is openssl's own."""

import hashlib
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from agent.errors import ConfigError, UplinkError
from agent.evidence import verify_package as verifier
from agent.evidence.packager import Packager, read_manifest
from agent.evidence.settings import EvidenceSettings
from agent.evidence.timestamp import Stamper, query, stamp
from agent.incident.folder import PACKAGES
from agent.store import Store
from tests.packing import BOOT, T0_NS, S, add_video, faults, packed

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs the Debian package openssl")

CONFIGURATION = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[ca]
basicConstraints = critical, CA:TRUE
[stamps]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[plain]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = critical, serverAuth
[tsa]
default_tsa = tsa_one
[tsa_one]
serial = {folder}/serial
crypto_device = builtin
signer_digest = {digest}
default_policy = 1.2.3.4.1
digests = sha256, sha384
accuracy = secs:1
ess_cert_id_alg = {digest}
ess_cert_id_chain = no
"""


class Authority:
    """A certificate authority, a time-stamping certificate, and what they answer."""

    def __init__(self, folder: Path, key: str = "rsa:2048", digest: str = "sha256", usage: str = "stamps") -> None:
        folder.mkdir()
        self.folder = folder
        self.ca = folder / "ca.pem"
        (folder / "serial").write_text("01\n")
        for name in ("Root", "Stamper"):
            text = CONFIGURATION.format(name=f"{name} {folder.name}", folder=folder, digest=digest)
            (folder / f"{name}.cnf").write_text(text)
        made = ["-newkey", *key.split(" "), "-nodes", "-sha256"]
        self._run("req", "-x509", *made, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-config", "Root.cnf",
                  "-extensions", "ca")  # fmt: skip
        self._run("req", *made, "-keyout", "tsa.key", "-out", "tsa.csr", "-config", "Stamper.cnf")
        self._run("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                  "tsa.pem", "-days", "30", "-extfile", "Stamper.cnf", "-extensions", usage)  # fmt: skip

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([str(OPENSSL), *arguments], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def answer(self, asked: bytes) -> bytes:
        (self.folder / "asked.tsq").write_bytes(asked)
        self._run("ts", "-reply", "-config", "Stamper.cnf", "-queryfile", "asked.tsq", "-signer", "tsa.pem", "-inkey",
                  "tsa.key", "-out", "answer.tsr")  # fmt: skip
        return (self.folder / "answer.tsr").read_bytes()

    def judges(self, data: bytes, answer: bytes) -> bool:
        """Say what openssl itself says of an answer."""
        (self.folder / "data").write_bytes(data)
        (self.folder / "judged.tsr").write_bytes(answer)
        verify = ["ts", "-verify", "-data", "data", "-in", "judged.tsr", "-CAfile", "ca.pem"]
        return subprocess.run([str(OPENSSL), *verify], cwd=self.folder, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tsa") / "one")


class Server:
    """An authority on the web; `spoil` changes what it answers."""

    def __init__(self, authority: Authority) -> None:
        self.asked: list[bytes] = []
        self.spoil = lambda answer: answer
        self.status = 200
        outer = self

        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/timestamp-query"
                outer.asked.append(asked)
                answer = outer.spoil(authority.answer(asked))
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self._server.server_port}/tsa"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(authority: Authority) -> Iterator[Server]:
    server = Server(authority)
    yield server
    server.close()


def tend(stamper: Stamper, now_ns: int) -> str | None:
    """Tend until what was asked for has come."""
    stamper.tend(now_ns)
    if stamper._asking is None:
        return None
    stamper._asking[2].exception(timeout=60)
    return stamper.tend(now_ns)


def test_a_query_is_what_openssl_asks_for(authority: Authority) -> None:
    (authority.folder / "q.tsq").write_bytes(query(b"manifest", 0x80FF))
    shown = subprocess.run(
        [str(OPENSSL), "ts", "-query", "-in", "q.tsq", "-text"], cwd=authority.folder, capture_output=True, text=True
    ).stdout
    assert "Hash Algorithm: sha256" in shown
    assert "Nonce: 0x80FF" in shown
    assert "Certificate required: yes" in shown
    assert hashlib.sha256(b"manifest").hexdigest()[:16] in shown.replace(" ", "").replace("-", "")


@pytest.mark.parametrize(
    ("key", "digest"),
    [("rsa:2048", "sha256"), ("rsa:2048", "sha512"), ("ec -pkeyopt ec_paramgen_curve:P-256", "sha384")],
)
def test_tokens_of_usual_authorities_hold_here_and_at_openssl(tmp_path: Path, key: str, digest: str) -> None:
    authority = Authority(tmp_path / "a", key, digest)
    answer = authority.answer(query(b"manifest", 7))
    assert authority.judges(b"manifest", answer)
    token = verifier.read_token(answer, verifier.read_authorities(str(authority.ca)))
    assert verifier.stamps(token, b"manifest")
    assert not verifier.stamps(token, b"another")
    assert (token.nonce, token.trusted, token.authority) == (7, True, "CN=Stamper a")


def test_a_flipped_bit_of_what_is_signed_is_refused_and_nothing_raises(authority: Authority) -> None:
    answer = authority.answer(query(b"manifest", 7))
    trusted = verifier.read_authorities(str(authority.ca))
    accepted = []
    for at in range(0, len(answer), 3):
        for bit in (1, 64):
            changed = bytearray(answer)
            changed[at] ^= bit
            try:
                token = verifier.read_token(bytes(changed), trusted)
            except verifier.BadError:
                continue
            accepted.append(at)
            # what is taken all the same says the same: the change was in an unsigned envelope
            assert token == verifier.read_token(answer, trusted)
    assert len(accepted) < 0.05 * len(answer)


def test_an_authority_that_nobody_trusts_or_that_may_not_stamp_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    answer = other.answer(query(b"manifest", 7))
    with pytest.raises(verifier.BadError, match="not trusted"):
        verifier.read_token(answer, verifier.read_authorities(str(authority.ca)))
    assert not verifier.read_token(answer, []).trusted
    refusal = authority.answer(query(b"manifest", 7)[:-3])  # no query at all
    with pytest.raises(verifier.BadError, match="refusal"):
        verifier.read_token(refusal, [])


def test_t_evid_7_a_token_over_another_hash_is_refused(authority: Authority, tmp_path: Path) -> None:
    # T-EVID-7
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
    (package / "manifest.tsr").write_bytes(authority.answer(query(b"another manifest", 7)))
    assert "time-stamp of something else" in faults(package)["manifest.tsr"]
    right = authority.answer(query((package / "manifest.json").read_bytes(), 7))
    (package / "manifest.tsr").write_bytes(right)
    assert faults(package) == {}
    (package / "manifest.tsr").write_bytes(right[:-1])
    assert "manifest.tsr" in faults(package)


def test_a_token_that_came_later_is_kept_with_its_manifest_and_both_times_are_shown(
    authority: Authority, server: Server, tmp_path: Path
) -> None:
    settings = EvidenceSettings(tsa_url=server.url, tsa_ca=str(authority.ca))
    packages = tmp_path / PACKAGES
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
        stamper, packager = Stamper(packages, settings), Packager(store, packages, BOOT)
        first = (package / "manifest.json").read_bytes()
        assert tend(stamper, 0) == package.name
        assert stamper.tend(0) is None  # the packager comes first
        (told,) = packager.tend(T0_NS + 60 * S)
        assert {"manifest-1.json", "manifest-1.sig", "manifest-1.tsr"} < {f.name for f in told.files}
        assert not (package / "manifest.tsr").exists()
        assert (package / "manifest-1.json").read_bytes() == first
        # done: nobody asks again, and nothing is packed again
        assert (tend(stamper, 1), packager.tend(T0_NS + 61 * S), len(server.asked)) == (None, [], 1)
        trusted = verifier.read_authorities(str(authority.ca))
        report = verifier.verify(str(package), store.public_key.hex(), trusted)
        assert (report.exit_code, report.facts["edition"]) == (0, 2)
        (seen,) = report.stamps
        assert (seen["file"], seen["trusted"]) == ("manifest-1.tsr", True)
        shown = "\n".join(verifier.sentences(report))
        assert seen["utc"] in shown
        assert report.facts["time_zero"]["utc"] in shown
        # every bit of a package that was stamped is covered, that of the token too
        chance = random.Random(3161)
        names = sorted(p.name for p in package.iterdir())
        for trial in range(200):
            path = package / names[trial % len(names)]
            data = bytearray(path.read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            whole = path.read_bytes()
            path.write_bytes(data)
            assert path.name in faults(package, store.device), (path.name, trial)
            path.write_bytes(whole)
        # a clip that came later is worth another token
        add_video(package)
        (package / "clip-rear.mp4").write_bytes(b"late")
        packager.tend(T0_NS + 70 * S)
        stamper = Stamper(packages, settings)
        assert tend(stamper, 2) == package.name
        packager.tend(T0_NS + 80 * S)
        report = verifier.verify(str(package), store.public_key.hex(), trusted)
        assert [s["file"] for s in report.stamps] == ["manifest-1.tsr", "manifest-3.tsr"]
        assert report.exit_code == 0
        stamper.close()


@pytest.mark.parametrize(
    ("spoil", "status", "told"),
    [
        (lambda a: a, 500, "500"),
        (lambda a: b"", 200, "not a time-stamp token"),
        (lambda a: b"<html>", 200, "is not"),
        (lambda a: a[:-40], 200, "is not"),
        (lambda a: a + bytes(2 << 20), 200, "is not"),
    ],
)
def test_an_answer_that_is_none_is_one_line_and_tried_again(
    server: Server, tmp_path: Path, spoil: object, status: int, told: str
) -> None:
    server.spoil, server.status = spoil, status  # type: ignore[assignment]
    settings = EvidenceSettings(tsa_url=server.url)
    with pytest.raises(UplinkError) as raised:
        stamp(b"manifest", settings, [])
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
    stamper = Stamper(tmp_path / PACKAGES, settings)
    assert tend(stamper, 0) is None
    assert not (package / "manifest.tsr").exists()
    assert stamper.tend(30 * S) is None
    assert len(server.asked) == 2  # it waits
    server.spoil, server.status = (lambda a: a), 200
    assert tend(stamper, 61 * S) == package.name
    stamper.close()


def test_an_answer_to_another_question_is_refused(authority: Authority, server: Server) -> None:
    old = authority.answer(query(b"manifest", 7))
    server.spoil = lambda _: old
    with pytest.raises(UplinkError, match="another question"):
        stamp(b"manifest", EvidenceSettings(tsa_url=server.url), [])


def test_a_package_that_is_removed_while_it_is_looked_at_does_not_stop_the_others(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
    gone = tmp_path / PACKAGES / "0000000000000000"
    gone.mkdir()

    def read(folder: Path) -> object:
        if folder == gone:
            gone.rmdir()  # by retention, in another thread
        return read_manifest(folder)

    monkeypatch.setattr("agent.evidence.timestamp.read_manifest", read)
    stamper = Stamper(tmp_path / PACKAGES, EvidenceSettings(tsa_url=server.url))
    assert tend(stamper, 0) == package.name
    assert not gone.exists()
    stamper.close()


def test_without_an_authority_nobody_is_asked(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        package = packed(tmp_path, store)
    stamper = Stamper(tmp_path / PACKAGES, EvidenceSettings())
    assert stamper.tend(0) is None
    assert not (package / "manifest.tsr").exists()
    with pytest.raises(UplinkError, match=r"127\.0\.0\.1:1/: no time-stamp"):
        stamp(b"manifest", EvidenceSettings(tsa_url="http://127.0.0.1:1/"), [])


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="http"):
        EvidenceSettings(tsa_url="file:///etc/passwd")
    with pytest.raises(ValueError, match="timeout_s"):
        EvidenceSettings(timeout_s=0.0)
    with pytest.raises(ConfigError, match="tsa_ca"):
        Stamper(tmp_path, EvidenceSettings(tsa_ca=str(tmp_path / "none.pem")))
