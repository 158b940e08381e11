"""Open files: each connection is one, and so is much that must work while connections come in."""

import resource

FILES_WANTED = 65535
"""As vLLM's API server: vllm/utils/system_utils.py, set_ulimit."""

FILES_RESERVED = 512
"""For the engine's sockets, log files, adapters, processes that compile; at most a quarter."""


def room_for_connections(wanted: int) -> int:
    """Raise this process' soft limit as far as needed and allowed; how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES_WANTED:
        soft = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - min(FILES_RESERVED, soft // 4)))
