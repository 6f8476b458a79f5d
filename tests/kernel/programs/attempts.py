"""Try what a service must not do, and what it must be able to; print a JSON object: attempt -> errno's name, or "done".

Runs inside the sandbox of a unit.
"""

import ctypes
import errno
import json
import mmap
import os
import socket

libc = ctypes.CDLL(None, use_errno=True)
# numbers on x86-64; arch/x86/entry/syscalls/syscall_64.tbl
CAPSET, PTRACE, MOUNT, UNSHARE, BPF, SETHOSTNAME, INIT_MODULE, REBOOT, SETTIMEOFDAY = (
    126, 101, 165, 272, 321, 170, 175, 169, 164,
)  # fmt: skip


def syscall(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def capset():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    syscall(CAPSET, header, (ctypes.c_uint32 * 6)(*[0xFFFFFFFF] * 6))


def create(path):
    with open(path, "w"):
        pass
    os.unlink(path)


def read(path):
    with open(path, "rb", buffering=0) as file:
        file.read(1)


def see_others():
    if "1" not in os.listdir("/proc"):
        raise OSError(errno.ENOENT, "")


def set_uid_bit():
    path = os.path.join(os.environ["STATE_DIRECTORY"], "bench")
    with open(path, "w"):
        pass
    try:
        os.chmod(path, 0o4755)
    finally:
        os.unlink(path)


ATTEMPTS = {
    "write /etc": lambda: create("/etc/bench"),
    "write /usr": lambda: create("/usr/bench"),
    "write /opt/roadwitness": lambda: create("/opt/roadwitness/bench"),
    "read /home": lambda: os.listdir("/home"),
    "read /root": lambda: os.listdir("/root"),
    "read the disk": lambda: read("/dev/vda"),
    "read the kernel's log": lambda: read("/dev/kmsg"),
    "open the i2c bus": lambda: read("/dev/i2c-0"),
    "open a camera": lambda: read("/dev/video0"),
    "write a kernel setting": lambda: create("/proc/sys/kernel/bench"),
    "write a control group": lambda: os.mkdir("/sys/fs/cgroup/bench"),
    "raw IP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "vsock socket": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close(),
    "CAN socket": lambda: socket.socket(socket.AF_CAN, socket.SOCK_RAW, 1).close(),
    "gain capabilities": capset,
    "trace process 1": lambda: syscall(PTRACE, 16, 1, 0, 0),
    "mount": lambda: syscall(MOUNT, b"none", b"/tmp", b"tmpfs", 0, 0),
    "new user namespace": lambda: syscall(UNSHARE, 0x10000000),
    "load BPF": lambda: syscall(BPF, 0, 0, 0),
    "set the host's name": lambda: syscall(SETHOSTNAME, b"x", 1),
    "load a module": lambda: syscall(INIT_MODULE, 0, 0, b""),
    "reboot": lambda: syscall(REBOOT, 0xFEE1DEAD, 672274793, 0x89ABCDEF, 0),
    "set the clock": lambda: syscall(SETTIMEOFDAY, (ctypes.c_long * 2)(1, 0), 0),
    "real-time priority": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "set a user-id bit": set_uid_bit,
    "memory to write and execute": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC).close(),
    "see process 1": see_others,
    "write its own folder": lambda: create(os.path.join(os.environ["STATE_DIRECTORY"], "bench")),
    "read the agent's store": lambda: os.listdir("/var/lib/roadwitness"),
}
found = {}
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
print(json.dumps(found))
