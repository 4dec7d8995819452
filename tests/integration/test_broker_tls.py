"""TLS to the broker: the server is verified, the client can be, and certificates may be renewed while we run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import trustme

from exporter.collectors import queues
from exporter.sources import SourceError
from tests.conftest import tool
from windsock_demo import servers
from windsock_demo.processes import launched

from .conftest import Watched

Watch = Callable[..., Awaitable[Watched]]

pytestmark = pytest.mark.system  # the wheel's Valkey has no TLS


@dataclass(frozen=True)
class Secured:
    """A server that speaks TLS, to clients with a certificate only."""

    port: int
    authority: trustme.CA
    directory: Path

    @property
    def server_files(self) -> dict[str, Path]:
        """The server's options that name files."""
        names = {"tls-cert-file": "server.pem", "tls-key-file": "server.key", "tls-ca-cert-file": "ca.pem"}
        return {option: self.directory / name for option, name in names.items()}

    def client_files(self, authority: trustme.CA) -> dict[str, str]:
        """Settings for a certificate of ours, issued by this authority into the same files each time."""
        issued = authority.issue_cert("windsock")
        issued.private_key_pem.write_to_path(self.directory / "client.key")
        issued.cert_chain_pems[0].write_to_path(self.directory / "client.pem")
        return {"cert_file": str(self.directory / "client.pem"), "key_file": str(self.directory / "client.key")}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    """A server whose certificate is for 127.0.0.1."""
    authority, port = trustme.CA(), servers.free_port()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    secured = Secured(port, authority, tmp_path)
    arguments = ["--tls-port", str(port)]
    for option, file in secured.server_files.items():
        arguments += [f"--{option}", str(file)]
    with servers.valkey(tmp_path, binary=tool("redis-server", "valkey-server"), arguments=arguments) as server:
        with redis.Redis(server.host, server.port) as client:
            client.lpush("default", "message")
        yield secured


async def test_certificates_of_both_sides_are_verified(secured: Secured, watch: Watch) -> None:
    """It works with the right authority and a client's certificate; with another authority only without verifying."""
    ours = {**secured.client_files(secured.authority), "ca_file": str(secured.directory / "ca.pem")}
    url = f"rediss://127.0.0.1:{secured.port}/0"
    expected = 'airflow_celery_queue_length{queue="default"} 1'
    watched = await watch(url, tls=ours, queues=["default"])
    assert expected in await watched.samples(queues.COLLECTOR)

    other = secured.directory / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    watched = await watch(url, tls={**ours, "ca_file": str(other)})
    with pytest.raises(SourceError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        await watched.text(queues.COLLECTOR)
    assert caught.value.reason == "connect"

    watched = await watch(url, tls={**ours, "ca_file": str(other), "verify": False}, queues=["default"])
    assert expected in await watched.samples(queues.COLLECTOR)


async def test_the_host_name_is_checked_unless_told_otherwise(secured: Secured, watch: Watch) -> None:
    """A certificate for another name is refused; `check_hostname: false` is for proxies and sentinels."""
    ours = {**secured.client_files(secured.authority), "ca_file": str(secured.directory / "ca.pem")}
    url = f"rediss://localhost:{secured.port}/0"
    watched = await watch(url, tls=ours)
    with pytest.raises(SourceError, match="Hostname mismatch"):
        await watched.text(queues.COLLECTOR)
    watched = await watch(url, tls={**ours, "check_hostname": False}, queues=["default"])
    assert 'airflow_celery_queue_length{queue="default"} 1' in await watched.samples(queues.COLLECTOR)


async def test_a_renewed_certificate_is_picked_up(secured: Secured, watch: Watch) -> None:
    """A client's certificate that the server refuses is replaced in its file, and the next read succeeds."""
    ours = {**secured.client_files(trustme.CA()), "ca_file": str(secured.directory / "ca.pem")}
    watched = await watch(f"rediss://127.0.0.1:{secured.port}/0", tls=ours, queues=["default"])
    with pytest.raises(SourceError) as caught:
        await watched.text(queues.COLLECTOR)
    assert caught.value.reason == "connect"
    secured.client_files(secured.authority)
    assert 'airflow_celery_queue_length{queue="default"} 1' in await watched.samples(queues.COLLECTOR)


async def test_sentinels_and_their_master_speak_tls(secured: Secured, watch: Watch) -> None:
    """The sentinels are verified like the master, with the same files, when `sentinel_tls` says so."""
    port = servers.free_port()
    lines = ["port 0", f"tls-port {port}", "tls-replication yes", f"dir {secured.directory}", "bind 127.0.0.1"]
    lines += [f"{option} {file}" for option, file in secured.server_files.items()]
    lines += [f"sentinel monitor airflow 127.0.0.1 {secured.port} 1"]
    file = secured.directory / "sentinel.conf"
    file.write_text("\n".join(lines))
    ours = {**secured.client_files(secured.authority), "ca_file": str(secured.directory / "ca.pem")}
    settings = {"master_name": "airflow", "sentinel_tls": True, "tls": ours, "queues": ["default"]}
    watched = await watch(f"sentinel://127.0.0.1:{port}/0", **settings)
    program = tool("redis-server", "valkey-server")
    with launched([str(program), str(file), "--sentinel"], secured.directory / "sentinel.log"):
        await watched.until(queues.COLLECTOR, 'airflow_celery_queue_length{queue="default"} 1')
