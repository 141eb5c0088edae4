"""Which hosts and addresses a URL named by a request may lead to.

Pure rules: names and addresses in, verdicts out.
It must not resolve, connect, or know of HTTP; `fetching` asks it before every connection.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The tables are ours and not only `ipaddress.is_global`, whose answers for 2002::/16, 64:ff9b:1::/48, 3fff::/20 and
# others differ between patch releases of Python. Source: the IANA special-purpose address registries.
_CLOSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's wire server: a public number that only the host itself answers
        "169.254.0.0/16",  # link-local; the metadata address of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# IANA has given out 2000::/3 alone for global unicast, so all else (loopback, mapped, compatible, unique local with
# fd00:ec2::254, site-local, link-local, multicast, 64:ff9b:1::/48) is closed without being named.
_OPEN_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address of the sender's choice
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)

# Names that never mean a public host (RFC 6761, 6762, 8375; the metadata names of the clouds). They are refused before
# a lookup, so that the question itself does not reach a resolver.
_CLOSED_NAMES = frozenset(
    {"localhost", "metadata", "instance-data", "metadata.goog", "ip6-localhost", "ip6-loopback", "broadcasthost"}
)
_CLOSED_SUFFIXES = (".localhost", ".localdomain", ".local", ".internal", ".home.arpa", ".onion", ".invalid")

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\Z")
_PORT_AT_END = re.compile(r"(?P<host>\[[^\]]+\]|[^:]+):(?P<port>[0-9]{1,5})\Z")


def literal(host: str) -> Address | None:
    """The address that `host` spells, if it spells one; brackets are taken off, zones are not accepted."""
    if "%" in host:
        return None
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def normal_host(host: str) -> str:
    """`host` in its one spelling: lower case, no final dot, addresses in canonical form.

    An IPv4 address in any other spelling (decimal, octal, hexadecimal, short) is a `ValueError`, not translated: no two
    parsers agree on them, and no honest URL needs them. So is every name that DNS could not hold.
    """
    host = host.lower().removesuffix(".")
    address = literal(host)
    if address is not None:
        return str(address)
    if _NUMBER.match(host.rpartition(".")[2]):
        raise ValueError("is not a plain IPv4 address")
    if len(host) > 253 or not _NAME.match(host):
        raise ValueError("is not a valid host name")
    return host


def is_closed_name(host: str) -> bool:
    """Whether a name (as `normal_host` spells it) stands for this machine, its network or its cloud by definition."""
    return host in _CLOSED_NAMES or host.endswith(_CLOSED_SUFFIXES)


def is_public(address: Address) -> bool:
    """Whether `address` is on the public internet and carries no other address that is not.

    NAT64's well-known prefix is judged by the IPv4 address in it: behind DNS64 every IPv4 host looks so.
    """
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _CLOSED_V4)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _OPEN_V6 or any(address in network for network in _CLOSED_V6):
        return False
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global


@dataclass(frozen=True)
class Rule:
    """One entry of an allow-list: a name, a domain's subdomains (leading dot) or a network, perhaps at one port."""

    name: str | None
    network: Network | None
    port: int | None

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Read `host`, `*.domain`, an address or a CIDR, each with an optional `:port` (IPv6: `[fd00::/8]:443`).

        Names are given in their ASCII form. Raises `ValueError` with a sentence that names the entry.
        """
        text, port = entry.strip().lower(), None
        ported = _PORT_AT_END.match(text)
        if ported:
            text, port = ported["host"], int(ported["port"])
        try:
            return cls(*_subject(text.removeprefix("[").removesuffix("]")), cls._checked(port))
        except ValueError as error:
            raise ValueError(f"{entry!r} is not a host, *.domain, address or CIDR (with :port if wanted)") from error

    @staticmethod
    def _checked(port: int | None) -> int | None:
        if port is not None and not 0 < port < 65536:
            raise ValueError("is not a port")
        return port

    def admits_name(self, host: str, port: int) -> bool:
        """Whether a host, spelled as `normal_host` does, is let through by its name."""
        if self.name is None or self.port not in (None, port):
            return False
        return host.endswith(self.name) if self.name.startswith(".") else host == self.name

    def admits_address(self, address: Address, port: int) -> bool:
        """Whether an address is let through by the network it is in."""
        return self.network is not None and self.port in (None, port) and address in self.network


def _subject(text: str) -> tuple[str | None, Network | None]:
    if "/" in text or literal(text) is not None:
        return None, ipaddress.ip_network(text)
    if text.startswith("*."):
        return "." + normal_host(text[2:]), None
    return normal_host(text), None


class Admission:
    """The verdicts for one list of exceptions: everything public at the usual ports, and what the rules add to it."""

    def __init__(self, allowed_hosts: Sequence[str], ports: Sequence[int]) -> None:
        self._rules = tuple(Rule.parse(entry) for entry in allowed_hosts)
        self._ports = frozenset(ports)

    def trusts(self, host: str, port: int) -> bool:
        """Whether the operator named this host: then whatever it resolves to may be connected to."""
        return any(rule.admits_name(host, port) for rule in self._rules)

    def may_ask(self, host: str, port: int) -> bool:
        """Whether it makes sense to resolve `host`: some address that it may have would be admitted at `port`."""
        if self.trusts(host, port) or self._some_network_at(port):
            return True
        return self._usual(port) and not is_closed_name(host)

    def admits(self, address: Address, port: int) -> bool:
        """Whether a host that is not trusted by name may be reached at `address` and `port`."""
        if any(rule.admits_address(address, port) for rule in self._rules):
            return True
        return self._usual(port) and is_public(address)

    def _usual(self, port: int) -> bool:
        return not self._ports or port in self._ports

    def _some_network_at(self, port: int) -> bool:
        return any(rule.network is not None and rule.port in (None, port) for rule in self._rules)
