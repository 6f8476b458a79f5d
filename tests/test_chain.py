"""The chain's arithmetic against docs/sources.md's vectors."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.chain import START, canonical, link, linked, public_bytes, seal, signed_by


def test_chain_hashes_equal_the_published_vectors() -> None:
    # docs/sources.md T-EVID-1
    expected = [("ad2b2b8c", "4453c22b"), ("46f3c51d", "d0c335e35f"), ("3e09de3b", "3ceb1d0f")]
    head = START
    for i, (begins, ends) in enumerate(expected):
        head = link(head, canonical({"t": 1_700_000_000 + i, "seq": i, "k": "trip"}))
        assert head.hex().startswith(begins)
        assert head.hex().endswith(ends)


def test_an_entry_of_another_lineage_or_device_does_not_link() -> None:
    key = Ed25519PrivateKey.generate()
    entry = seal(key, "rw-1", "aa", START, "event", 1, "boot", 5, "event", b"{}")
    assert linked("rw-1", START, entry)
    assert not linked("rw-2", START, entry)
    assert not linked("rw-1", START, type(entry)("bb", *(getattr(entry, f) for f in entry.__struct_fields__[1:])))
    assert signed_by(public_bytes(key), entry)
    assert not signed_by(public_bytes(Ed25519PrivateKey.generate()), entry)
    assert not signed_by(b"short", entry)
