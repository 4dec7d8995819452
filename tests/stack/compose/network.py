"""Networks of the kernel, as an engine makes them: a namespace per container, a bridge per network, and names by DNS.

They have no way out of this machine: nothing routes between the bridges or beyond them.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

NAMESPACES = Path("/var/run/netns")
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


class Network:
    """All networks of one stack; `running` names the containers that have a name by DNS."""

    def __init__(self, names: Sequence[str]) -> None:
        self._id = f"ws{secrets.token_hex(2)}"
        self._subnets = {name: f"10.66.{number}" for number, name in enumerate(names, 1)}
        self._containers: dict[str, dict[str, str]] = {}
        self.running: set[str] = set()
        self.host = self._namespace("host")
        for name, subnet in self._subnets.items():
            _ip("-n", self.host, "link", "add", name[:15], "type", "bridge")
            _ip("-n", self.host, "address", "add", f"{subnet}.1/24", "dev", name[:15])
            _ip("-n", self.host, "link", "set", name[:15], "up")
        self._sockets = [self._dns(f"{subnet}.1") for subnet in self._subnets.values()]

    def close(self) -> None:
        """Nothing of it is left."""
        for each in self._sockets:
            each.close()
        for name in ("host", *self._containers):
            subprocess.run(["ip", "netns", "delete", f"{self._id}-{name}"], check=False, capture_output=True)

    def join(self, container: str, networks: Sequence[str]) -> Path:
        """The namespace of a container, which is in these networks; made when it first asks."""
        namespace = f"{self._id}-{container}"
        if container not in self._containers:
            self._containers[container] = {}
            self._namespace(container)
            for number, network in enumerate(networks):
                self._connect(namespace, container, network, f"eth{number}")
        return NAMESPACES / namespace

    def resolver(self, container: str) -> str:
        """The content of the container's /etc/resolv.conf."""
        address = next(iter(self._containers[container].values()))
        return f"nameserver {address.rpartition('.')[0]}.1\n"

    def address(self, container: str, network: str) -> str:
        """A container's address in a network."""
        return self._containers[container][network]

    @contextmanager
    def entered(self, container: str = "host") -> Iterator[None]:
        """Sockets that this thread opens in the block are a container's, or of the machine that has the bridges."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(NAMESPACES / f"{self._id}-{container}", os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(before)
            os.close(before)
            os.close(there)

    def _namespace(self, name: str) -> str:
        _ip("netns", "add", f"{self._id}-{name}")
        _ip("-n", f"{self._id}-{name}", "link", "set", "lo", "up")
        return f"{self._id}-{name}"

    def _connect(self, namespace: str, container: str, network: str, device: str) -> None:
        number = len(self._containers) + 1
        address = f"{self._subnets[network]}.{number}"
        end = f"v{number}{device}"
        _ip("-n", self.host, "link", "add", end, "type", "veth", "peer", "name", device, "netns", namespace)
        _ip("-n", self.host, "link", "set", end, "master", network[:15], "up")
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", device)
        _ip("-n", namespace, "link", "set", device, "up")
        self._containers[container][network] = address

    def _dns(self, address: str) -> socket.socket:
        with self.entered():
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listener.bind((address, 53))
        threading.Thread(target=self._answer, args=(listener,), daemon=True).start()
        return listener

    def _answer(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                query, (sender, port) = listener.recvfrom(512)
                listener.sendto(self._reply(query, sender), (sender, port))

    def _reply(self, query: bytes, sender: str) -> bytes:
        labels, rest = [], query[12:]
        while length := rest[0]:
            labels.append(rest[1 : 1 + length].decode())
            rest = rest[1 + length :]
        kind = struct.unpack("!H", rest[1:3])[0]
        question = query[12 : len(query) - len(rest) + 5]
        known = ".".join(labels).lower() in self.running
        found = self._seen_by(sender, labels[0].lower()) if known and kind == 1 else []
        header = query[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, len(found), 0, 0)
        answers = [b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 1, 4) + socket.inet_aton(each) for each in found]
        return header + question + b"".join(answers)

    def _seen_by(self, sender: str, name: str) -> list[str]:
        """A container's addresses in the networks that it shares with whoever asks."""
        asking: set[str] = next((set(own) for own in self._containers.values() if sender in own.values()), set())
        return [address for network, address in self._containers[name].items() if network in asking][:1]


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
