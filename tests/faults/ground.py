"""What an instance stands on: a small disk, a resolver and a clock of its own. Each of them can be bad."""
import itertools
import os
import pathlib
import random
import socket
import threading

import world
from world import sh


class Skip(Exception):
    pass


def preload():
    """What moves the clock of a process, by a file that says by how much."""
    library = next(iter(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if library is None and os.geteuid() == 0:
        world.sh("apt-get", "install", "-y", "-q", "faketime")
        library = next(iter(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if library is None:
        raise Skip("no libfaketime")
    return library


class Clock:
    """The clock of a process, which can be set."""

    def __init__(self, library):
        self.file = world.WORK / f"clock-{random.randrange(10**9)}"
        self.set(0)
        # What it reads is moved; how it waits is not.
        self.wrap = ("env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={self.file}", "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")

    def set(self, seconds):
        beside = self.file.with_suffix(".new")
        beside.write_text(f"{seconds:+}\n")
        beside.rename(self.file)


class Disk:
    """A small disk of its own."""

    def __init__(self, name, size):
        self.path = world.WORK / name
        self.path.mkdir()
        code, said = sh("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", self.path)
        if code:
            raise Skip(f"no disk can be mounted: {said.strip()}")

    def fill(self):
        try:
            with open(self.path / "filler", "ab", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        sh("umount", "-l", self.path)


class Names:
    """A resolver on a loopback address of its own, which says what it is told to."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            self.address = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"
            try:
                self.socket.bind((self.address, 53))
                break
            except PermissionError as why:
                raise Skip(f"no resolver can listen: {why}")
            except OSError:
                continue
        self.answer, self.asked = "127.0.0.1", 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(1500)
            self.asked += 1
            if self.answer == "nothing":
                continue
            end = query.index(b"\0", 12) + 5
            question, wants_a = query[12:end], query[end - 4 : end - 2] == b"\0\1"
            count = 1 if wants_a and self.answer[0].isdigit() else 0
            # NXDOMAIN, or no such record: what `empty` says of every kind.
            code = b"\x81\x83" if self.answer == "nobody" else b"\x81\x80"
            reply = query[:2] + code + b"\0\1" + bytes([0, count]) + bytes(4) + question
            if count:
                reply += b"\xc0\x0c\0\1\0\1" + (5).to_bytes(4, "big") + b"\0\4" + socket.inet_aton(self.answer)
            self.socket.sendto(reply, client)


class Ground:
    """All of them, for one instance, whose application is known to it by a name."""

    # Kinds of fault, as rows name them.
    KINDS = ("disk", "names", "clock")

    def __init__(self, name):
        self.disk, self.names, self.clock = Disk(name, "2m"), Names(), Clock(preload())
        self.manners, self.offsets = itertools.cycle(("nothing", "nobody", "empty")), itertools.cycle((10, 0, -10, 0))
        conf = world.WORK / f"{name}.conf"
        conf.write_text(f"nameserver {self.names.address}\noptions timeout:2 attempts:1\n")
        bound = ("unshare", "-m", "sh", "-c", f'mount --bind {conf} /etc/resolv.conf && exec "$@"', "sh")
        if sh(*bound, "true")[0]:
            self.close()
            raise Skip("no name space for mounts")
        self.wrap = (*bound, *self.clock.wrap)

    def be_bad(self, kind):
        """Asked for again and again: what somebody has cleared is filled once more, the clock goes to and fro."""
        if kind == "disk":
            self.disk.fill()
        elif kind == "clock":
            self.clock.set(next(self.offsets))
        elif self.names.answer[0].isdigit():
            self.names.answer = next(self.manners)

    def be_well(self, kind):
        if kind == "disk":
            (self.disk.path / "filler").unlink(missing_ok=True)
        elif kind == "clock":
            self.clock.set(0)
        else:
            self.names.answer = "127.0.0.1"

    def close(self):
        sh("umount", "-l", self.disk.path)
