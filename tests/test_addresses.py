"""The rules of what a URL named by a request may lead to."""

import ipaddress

import pytest
from tests.hostile import ADDRESSES

from antiphon.addresses import Admission, Rule, is_public, normal_host


@pytest.mark.parametrize("address", ADDRESSES)
def test_hostile_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "168.63.129.17",
        "223.255.255.254",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80b::200e",
        "64:ff9b::8.8.8.8",
        "2600::5efe:808:808",
    ],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("entry", "host", "address", "admitted"),
    [
        ("files.test", "files.test:81", "10.0.0.1", True),
        ("FILES.test.", "files.test:81", "10.0.0.1", True),
        ("files.test", "a.files.test:81", "10.0.0.1", False),
        ("files.test", "xfiles.test:81", "10.0.0.1", False),
        ("files.test:81", "files.test:81", "10.0.0.1", True),
        ("files.test:82", "files.test:81", "10.0.0.1", False),
        ("*.corp.test", "a.b.corp.test:81", "10.0.0.1", True),
        ("*.corp.test", "corp.test:81", "10.0.0.1", False),
        ("*.corp.test", "evilcorp.test:81", "10.0.0.1", False),
        ("*.corp.test:81", "a.corp.test:81", "10.0.0.1", True),
        ("*.corp.test:81", "a.corp.test:82", "10.0.0.1", False),
        ("10.0.0.0/8", "any.test:81", "10.0.0.1", True),
        ("10.0.0.0/8", "any.test:81", "11.0.0.1", False),
        ("10.0.0.0/8", "any.test:81", "::ffff:10.0.0.1", False),
        ("10.0.0.0/8:81", "any.test:81", "10.0.0.1", True),
        ("10.0.0.0/8:81", "any.test:82", "10.0.0.1", False),
        ("10.0.0.1", "any.test:81", "10.0.0.1", True),
        ("10.0.0.1", "any.test:81", "10.0.0.2", False),
        ("fd00::/8", "any.test:81", "fd00::1", True),
        ("[fd00::/8]:81", "any.test:81", "fd00::1", True),
        ("[fd00::/8]:82", "any.test:81", "fd00::1", False),
        ("[::1]:81", "any.test:81", "::1", True),
        ("::1", "any.test:81", "::1", True),
        ("localhost", "localhost:81", "127.0.0.1", True),
        ("8.8.8.8", "any.test:81", "8.8.8.8", True),
        ("other.test", "any.test:80", "8.8.8.8", True),
        ("other.test", "any.test:81", "8.8.8.8", False),
    ],
)
def test_what_an_entry_of_the_allow_list_admits(entry: str, host: str, address: str, admitted: bool) -> None:
    name, _, port = host.partition(":")
    admission = Admission([entry], [80, 443])
    found = admission.trusts(name, int(port)) or admission.admits(ipaddress.ip_address(address), int(port))
    assert found is admitted
    assert admission.may_ask(name, int(port)) or not admitted


@pytest.mark.parametrize(
    "entry", ["", "*", "*.", "http://a.test", "a.test/x", "10.0.0.1/8", "10.0.0.0/99", "a b", "127.1", "a:0", "a:70000"]
)
def test_a_malformed_entry_is_said_at_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        Rule.parse(entry)
    with pytest.raises(ValueError, match="is not a host"):
        Admission(["example.test", entry], [])


def test_a_host_has_one_spelling() -> None:
    assert normal_host("WWW.Example.COM.") == "www.example.com"
    assert normal_host("[2001:DB8:0:0::1]") == "2001:db8::1"
    assert normal_host("8.8.8.8.") == "8.8.8.8"
