"""Addresses and URLs that no request may make the server connect to."""

_IPV4 = """
    127.0.0.1 127.255.255.254 0.0.0.0 0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1
    100.100.100.200 169.254.169.254 168.63.129.16 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.1
    203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
"""
_IPV6 = """
    :: ::1 0:0:0:0:0:0:0:1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:169.254.169.254
    ::ffff:8.8.8.8 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::8.8.8.8
    2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::1 2002:808:808::1
    2600::5efe:7f00:1 2600::200:5efe:10.0.0.1 3fff::1 4000::1 100::1 5f00::1 fc00::1 fd00:ec2::254 fd20:ce::254
    fe80::1 fec0::1 ff02::1
"""
ADDRESSES = [*_IPV4.split(), *_IPV6.split()]

# {port} is to be replaced by one that somebody listens at.
URLS = [
    *(f"http://{address}:{{port}}/" for address in _IPV4.split()),
    *(f"http://[{address}]:{{port}}/" for address in _IPV6.split()),
    # the same addresses, spelled otherwise
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0X7F.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://127.0.0.01:{port}/",
    "http://0:{port}/",
    "http://0x:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.0.0.1..:{port}/",
    "http://256.256.256.256:{port}/",
    "http://4294967297:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[::1%lo]:{port}/",
    "http://[127.0.0.1]:{port}/",
    "http://[v1.x]:{port}/",
    # names that are private by definition
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://a.localhost:{port}/",
    "http://printer.local:{port}/",
    "http://db.internal:{port}/",
    "http://metadata.google.internal:{port}/computeMetadata/v1/",
    "http://metadata:{port}/",
    "http://metadata.goog:{port}/",
    "http://nas.home.arpa:{port}/",
    # parts that mislead
    "http://example.com@127.0.0.1:{port}/",
    "http://user:pass@example.com:{port}/",
    "http://@example.com:{port}/",
    "http://:@example.com:{port}/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://example.com\\.127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@example.com/",
    "http://exa mple.com:{port}/",
    "http://exam\nple.com:{port}/",
    "http://example.com:{port}/\r\nX-Evil: 1",
    "http://example.com:{port}/\x00",
    "http://exa_mple..com:{port}/",
    "http://-example.com:{port}/",
    "http://" + "a" * 64 + ".com:{port}/",
    "http://" + "a." * 130 + "com:{port}/",
    "http://ex%61mple.com:{port}/",
    "http://*.example.com:{port}/",
    # not a URL that is fetched
    "",
    "/",
    "example.com",
    "//127.0.0.1:{port}/",
    "http:",
    "http://",
    "http:///x",
    "http:/127.0.0.1:{port}/",
    "http://:{port}/",
    "http://example.com:0/",
    "http://example.com:65536/",
    "http://example.com:port/",
    "http://[::1/",
    "ftp://127.0.0.1:{port}/",
    "ftp://example.com:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "data:text/plain,hello",
    "javascript:alert(1)",
    "ws://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock",
    "http://example.com/" + "x" * 9000,
    "http://example.com/\ud800",
]
