"""Where the tools of the suites come from: Debian, Go modules, PyPI, npm, each by its ordinary client, into a cache."""
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

from world import CACHE, sh


class Skip(Exception):
    """Something that cannot be had here."""


# One of them installs at a time.
INSTALLS = threading.Lock()


def apt(command, package):
    with INSTALLS:
        return installed(command, package)


def installed(command, package):
    if not shutil.which(command):
        if os.geteuid() != 0 or sh("sh", "-c", f"apt-get install -y -q {package} || (apt-get update -q && apt-get install -y -q {package})")[0] != 0:
            raise Skip(f"{package} cannot be had")
        # What we start ourselves is all that is to run.
        if command in ("redis-server", "nginx", "prometheus"):
            sh("sh", "-c", f"service {command} stop || true")
    return command


def go(package, name):
    """A Go program, built once."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    target = CACHE / f"bin-{name}"
    program = target / package.split("@")[0].rstrip("/").split("/")[-1]
    if not program.exists():
        if not os.path.exists(go):
            raise Skip("no Go here")
        code, said = sh(go, "install", package, env={**os.environ, "GOBIN": str(target)}, timeout=1200)
        if code:
            raise Skip(said.strip().splitlines()[-1])
    # A module of a later major version is built under the name before it.
    return program if program.exists() else next(target.iterdir())


def pip(package, name):
    """A program of a Python package, in an environment of its own."""
    home = CACHE / "venv"
    if not (home / "bin/pip").exists():
        sh(sys.executable, "-m", "venv", home)
    if not (home / "bin" / name).exists():
        code, said = sh(home / "bin/pip", "install", "-q", package)
        if code or not (home / "bin" / name).exists():
            raise Skip(f"{package} cannot be had: {said.strip()[-200:]}")
    return home / "bin" / name


def npm(*packages):
    """A directory whose `node_modules` has these (`name@version`)."""
    home = CACHE / "node"
    home.mkdir(parents=True, exist_ok=True)
    missing = [package for package in packages if not (home / "node_modules" / package.rsplit("@", 1)[0]).exists()]
    if missing:
        if not shutil.which("npm"):
            raise Skip("no npm here")
        code, said = sh("npm", "install", "--no-audit", "--no-fund", "--silent", *missing, cwd=home)
        if code:
            raise Skip(f"{missing} cannot be had: {said.strip()[-200:]}")
    return home


def faketime():
    """The library that moves the clock of a program."""
    found = lambda: next(iter(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if found() is None:
        apt("faketime", "faketime")
    if found() is None:
        raise Skip("no libfaketime")
    return found()


def wait_for_port(port, seconds=20):
    end = time.time() + seconds
    while time.time() < end:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"nothing listens at {port}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Running:
    """A process that ends with the block."""

    def __init__(self, *words, port=None, **more):
        more.setdefault("stdout", subprocess.DEVNULL)
        more.setdefault("stderr", subprocess.DEVNULL)
        self.process = subprocess.Popen([str(w) for w in words], **more)
        if port:
            try:
                wait_for_port(port)
            except RuntimeError:
                self.process.kill()
                raise

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Nginx(Running):
    """An nginx with these lines in its `http` block; `LISTEN` in them becomes its address."""

    def __init__(self, directory, lines):
        self.port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        kept = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (directory / "nginx.conf").write_text(f"daemon off; worker_processes 1; pid {directory}/pid; error_log stderr crit;\nevents {{ worker_connections 4096; }}\nhttp {{ access_log off; {kept}\n{lines.replace('LISTEN', f'127.0.0.1:{self.port}')}\n}}\n")
        super().__init__(apt("nginx", "nginx"), "-c", directory / "nginx.conf", "-e", "stderr", port=self.port)

    def __enter__(self):
        super().__enter__()
        return self
