"""Which network addresses pictures may be fetched from: an address as text in, yes or no out.

Written down here and not left to `ipaddress.is_global`, which has changed between versions of
Python and in 3.11 takes NAT64, 6to4, `::a.b.c.d`, fec0::/10, multicast and 192.0.0.8 for global.
Sources: IANA's special-purpose address registries (RFC 6890), and RFC 4291, 3056, 4380, 6052.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

SPECIAL_IPV4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT; metadata of Alibaba Cloud
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's own services, in every virtual machine
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; metadata of Oracle Cloud
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]
GLOBAL_IPV6 = IPv6Network("2000::/3")
"""All that is global unicast. Outside of it lie loopback, `::a.b.c.d`, IPv4-mapped addresses,
NAT64 (64:ff9b::/96, 64:ff9b:1::/48), unique local, link-local, site-local and multicast ones."""

SPECIAL_IPV6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo, benchmarks and ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
]


def is_public(address: str) -> bool:
    """Whether it is a globally routable unicast address that leads to itself.

    An IPv6 address with an IPv4 address inside never is, even if the inner one would be. What is
    no address at all is not public.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv4Address):
        return not any(parsed in network for network in SPECIAL_IPV4)
    return parsed in GLOBAL_IPV6 and not any(parsed in network for network in SPECIAL_IPV6)
