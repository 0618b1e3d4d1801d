"""rsyslog as the site's syslog server: UDP, TCP and TLS on free ports of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.audit.schema import Message
from tests.certificates import Credentials
from tests.peers import running, tool
from tests.ports import free_port

BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class Rsyslog:
    """A running server.

    Attributes:
        log: What it has written: each message's header fields, and the message.
        ports: By transport.
    """

    log: Path
    ports: dict[str, int]

    def url(self, transport: str) -> str:
        return f"{transport}://127.0.0.1:{self.ports[transport]}"

    @property
    def lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []

    @property
    def messages(self) -> list[Message]:
        """Every message, checked against the schema."""
        return [Message(line.partition(BYTE_ORDER_MARK)[2].encode()) for line in self.lines]


@contextmanager
def rsyslog(folder: Path, server: Credentials, driver: str) -> Iterator[Rsyslog]:
    """Start it; over TLS it lets in whoever has a certificate of the authority.

    Args:
        folder: For its files.
        server: What it shows and trusts.
        driver: Its TLS: ``ossl`` ends a connection with close_notify, ``gtls`` (GnuTLS) without.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, ports = folder / "audit.log", {name: free_port() for name in ("tls", "tcp", "udp")}
    configuration = folder / "rsyslog.conf"
    configuration.write_text(
        f"""
global(workDirectory="{folder}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriver="{driver}" defaultNetstreamDriverCAFile="{server.authorities}"
  defaultNetstreamDriverCertFile="{server.certificate}"
  defaultNetstreamDriverKeyFile="{server.key}")
module(load="imudp")
module(load="imptcp")
module(load="imtcp" streamDriver.name="{driver}" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
template(name="all" type="string"
  string="%pri%|%timereported:::date-rfc3339%|%hostname%|%app-name%|%procid%|%msgid%|%msg%\\n")
ruleset(name="audit") {{ action(type="omfile" file="{log}" template="all" asyncWriting="off") }}
input(type="imudp" address="127.0.0.1" port="{ports["udp"]}" ruleset="audit")
input(type="imptcp" address="127.0.0.1" port="{ports["tcp"]}" ruleset="audit")
input(type="imtcp" address="127.0.0.1" port="{ports["tls"]}" ruleset="audit")
"""
    )
    command = [tool("rsyslogd"), "-n", "-f", str(configuration), "-i", str(folder / "rsyslogd.pid"), "-C"]
    with running(command, ports["tls"], folder=folder):
        yield Rsyslog(log, ports)
