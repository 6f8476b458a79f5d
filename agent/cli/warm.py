"""`roadwitness warm`: compile all kernels and keep the machine code beside them."""

import typer

from agent.clock import NS_PER_S, monotonic_ns

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

# Importing a module compiles its kernels, because they name their signatures.
KERNELS = (
    "drivers.recording.candump_kernel",
    "drivers.recording.samples_kernel",
    "drivers.recording.timeline",
    "drivers.can.slcan_kernel",
    "drivers.can.socket_kernel",
    "drivers.can.stamps",
    "drivers.decode.tables",
    "drivers.decode.obd",
    "drivers.decode.interleave",
    "agent.detect.harsh",
    "agent.detect.sustained",
    "agent.crash.kernel",
    "agent.trip_kernel",
    "agent.track_kernel",
    "agent.spine",
)


@app.command()
def warm() -> None:
    """Compile the kernels now (about a minute on a Pi), so that the first start is fast."""
    from importlib import import_module

    began_ns = monotonic_ns()
    for name in KERNELS:
        import_module(name)
        typer.echo(f"{name} ready after {(monotonic_ns() - began_ns) / NS_PER_S:.1f} s")
