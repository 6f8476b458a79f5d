"""Try what a service must not do, and what it must be able to; print a JSON object: attempt -> errno's name, or "done".

Runs inside the sandbox of a unit, and once outside of any, where root can do all of it: none of it changes anything.
"""

import ctypes
import errno
import json
import mmap
import os
import socket
import time

libc = ctypes.CDLL(None, use_errno=True)
# numbers on x86-64; arch/x86/entry/syscalls/syscall_64.tbl
CAPSET, PTRACE, MOUNT, UMOUNT, UNSHARE, BPF, SETHOSTNAME, INIT_MODULE, REBOOT, SETTIMEOFDAY = (
    126, 101, 165, 166, 272, 321, 170, 175, 169, 164,
)  # fmt: skip
SEIZE = 0x4206  # PTRACE_SEIZE, which stops nothing
LOOKED_AT = (errno.EFAULT, errno.EINVAL, errno.ENOEXEC)  # allowed, and what was given is nonsense


def syscall(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def reach(number, *arguments):
    """Call with arguments that mean nothing: what the kernel says of these, it says to those who may."""
    try:
        syscall(number, *arguments)
    except OSError as error:
        if error.errno not in LOOKED_AT:
            raise


def capset():
    """Take the right to load modules and the like, all that is known."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    syscall(CAPSET, header, (ctypes.c_uint32 * 6)(*[0xFFFFFFFF, 0xFFFFFFFF, 0, 0x1FF, 0x1FF, 0]))


def create(path):
    with open(path, "w"):
        pass
    os.unlink(path)


def make_folder(path):
    os.mkdir(path)
    os.rmdir(path)


def read(path):
    with open(path, "rb", buffering=0) as file:
        file.read(1)


def opened(path, how=os.O_RDWR):
    os.close(os.open(path, how))


def write_setting():
    with open("/proc/sys/vm/swappiness", "r+") as file:
        text = file.read()
        file.seek(0)
        file.write(text)


def mount():
    syscall(MOUNT, b"none", b"/mnt", b"tmpfs", 0, 0)
    syscall(UMOUNT, b"/mnt", 0)


def see_others():
    if "1" not in os.listdir("/proc"):
        raise OSError(errno.ENOENT, "")


def own_folder():
    return os.environ.get("STATE_DIRECTORY", "/tmp")


def set_uid_bit():
    path = os.path.join(own_folder(), "bench")
    with open(path, "w"):
        pass
    try:
        os.chmod(path, 0o4755)
    finally:
        os.unlink(path)


NAME = socket.gethostname().encode()
ATTEMPTS = {
    "write /etc": lambda: create("/etc/bench.new"),
    "write /usr": lambda: create("/usr/bench.new"),
    "write /opt/roadwitness": lambda: create("/opt/roadwitness/bench.new"),
    "read /home": lambda: read("/home/bench"),
    "read /root": lambda: read("/root/bench"),
    "read the disk": lambda: read("/dev/vda"),
    "read the kernel's log": lambda: opened("/dev/kmsg", os.O_RDONLY),
    "open the i2c bus": lambda: opened("/dev/i2c-0"),
    "open a camera": lambda: opened("/dev/video0"),
    "write a kernel setting": write_setting,
    "write a control group": lambda: make_folder("/sys/fs/cgroup/bench.new"),
    "raw IP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "crypto socket": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).close(),
    "CAN socket": lambda: socket.socket(socket.AF_CAN, socket.SOCK_RAW, 1).close(),
    "gain capabilities": capset,
    "trace process 1": lambda: syscall(PTRACE, SEIZE, 1, 0, 0),
    "mount": mount,
    "new user namespace": lambda: syscall(UNSHARE, 0x10000000),
    "load BPF": lambda: reach(BPF, 0, 0, 0),
    "set the host's name": lambda: syscall(SETHOSTNAME, NAME, len(NAME)),
    "load a module": lambda: reach(INIT_MODULE, 0, 0, b""),
    "reboot": lambda: syscall(REBOOT, 0xFEE1DEAD, 672274793, 0, 0),  # only: Ctrl-Alt-Del asks process 1
    "set the clock": lambda: syscall(SETTIMEOFDAY, (ctypes.c_long * 2)(int(time.time()), 0), 0),
    "real-time priority": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "set a user-id bit": set_uid_bit,
    "memory to write and execute": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC).close(),
    "see process 1": see_others,
    "write its own folder": lambda: create(os.path.join(own_folder(), "bench.new")),
    "read the agent's store": lambda: os.listdir("/var/lib/roadwitness"),
}
found = {}
# last what changes this process itself
for name, attempt in sorted(ATTEMPTS.items(), key=lambda row: row[0] in ("new user namespace", "gain capabilities")):
    try:
        attempt()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
print(json.dumps(found))
