"""Any text as a picture's URL: read as everybody else reads it, or refused."""

from urllib.parse import urlsplit

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.provisional import urls

from app.errors import InvalidRequest
from app.images.urls import DataURL, WebURL, parse_url

PIECES = [
    *("http://", "HTTPS://", "http:", "//", "/", "\\", "@", ":", "#", "?", "%2f", "%00", "[", "]"),
    *("[::1]", "[::ffff:127.0.0.1]", "127.1", "0x7f000001", "2130706433", "①", "。", "localhost"),
    *("example.com", "a.b", ".", "..", " ", "\t", "\n", "\0", ":80", ":99999", ":00080", "user"),
    *("data:", "data:image/png;base64,", "AAAA", "=", "====", "é", "-", "_", "ftp://", "file://"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join)


@given(url=TEXTS | urls() | st.text())
@example(url="http://allowed.com\\@127.0.0.1/")
@example(url="http://127.0.0.1\\@allowed.com/")
@example(url="http://[::1]:/")
def test_a_url_is_read_as_others_read_it_or_refused(url: str) -> None:
    try:
        parsed = parse_url(url)
    except InvalidRequest as error:
        assert error.status == 400
        assert len(error.message) < 1024
        return
    if isinstance(parsed, WebURL):
        assert_alike(url, parsed)
    else:
        assert_decodes(parsed)


def assert_alike(url: str, parsed: WebURL) -> None:
    """What is checked and dialled is what the standard library would have dialled."""
    other = urlsplit(url)
    assert other.username is None
    assert (parsed.scheme, parsed.host) == (other.scheme, other.hostname)
    assert parsed.port == (other.port or {"http": 80, "https": 443}[parsed.scheme])
    assert parsed.target.startswith("/")
    assert parsed.target.isascii()
    assert not set(parsed.target) & set(" \\\r\n\0")


def assert_decodes(parsed: DataURL) -> None:
    """Its size is told before it is decoded, and never too small."""
    try:
        size = len(parsed.decode())
    except InvalidRequest:
        return
    parsed.check_size(size)
