"""The bench: a real Debian kernel in QEMU, and the suite that needs one. See README.md."""
