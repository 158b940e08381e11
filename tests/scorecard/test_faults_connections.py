"""F1, F2, F8: clients that leave, that do not read, and that come in crowds."""

import time
from collections.abc import Callable
from contextlib import ExitStack

import psutil

from tests.scorecard.conftest import assert_canary
from tests.scorecard.raw import RawConnection, raw_connection, raw_connections
from tests.scorecard.target import Target, our_server

RUNNING = "vllm:num_requests_running"
LONG = {"max_tokens": 1500, "ignore_eos": True}
ABORT_SECONDS = 1
TIMES, AT_ONCE = 250, 25


def until_running(target: Target, count: int, seconds: float) -> None:
    """Wait until the engine works on so many requests."""
    deadline = time.monotonic() + seconds
    while (running := target.metric(RUNNING)) != count:
        assert time.monotonic() < deadline, f"{running} requests are running, not {count}"
        time.sleep(0.02)


def leave(connection: RawConnection) -> None:
    connection.close()


def finish_sending(connection: RawConnection) -> None:
    """Half of a close; nobody can tell it from a whole one until something is sent."""
    connection.finish_sending()


def test_f1_leaving_in_the_middle_of_a_stream_aborts(target: Target) -> None:
    leave_often(target, stream=True, is_begun=True, leave=leave)


def test_f1_leaving_before_the_first_token_aborts(target: Target) -> None:
    leave_often(target, stream=True, is_begun=False, leave=leave)


def test_f1_closing_one_half_in_the_middle_of_a_stream_aborts(target: Target) -> None:
    leave_often(target, stream=True, is_begun=True, leave=finish_sending)


def test_f1_leaving_a_plain_reply_aborts(target: Target) -> None:
    leave_often(target, stream=False, is_begun=False, leave=leave)


def leave_often(
    target: Target, *, stream: bool, is_begun: bool, leave: Callable[[RawConnection], None]
) -> None:
    """Many times, many at once; each time all that ran for them is gone a second later."""
    request = target.request(target.chat(**LONG, stream=stream))
    for _ in range(TIMES // AT_ONCE):
        with raw_connections(target.url, AT_ONCE) as connections:
            for connection in connections:
                connection.send(request)
            if is_begun:
                for connection in connections:
                    assert b"data: " in connection.read(5, until=b"data: ").data
            elif not stream:
                until_running(target, AT_ONCE, 5)
            for connection in connections:
                leave(connection)
            until_running(target, 0, ABORT_SECONDS)


def test_f1_request_sent_ahead_does_not_hide_that_its_client_has_left(target: Target) -> None:
    request = target.request(target.chat(**LONG))
    with raw_connection(target.url) as connection:
        connection.send(request, request)
        until_running(target, 1, 5)
    until_running(target, 0, ABORT_SECONDS)


def test_f2_readers_that_do_not_read_are_cut_off(target: Target) -> None:
    """50 of them; others are served meanwhile."""
    endless = target.chat(max_tokens=100_000, ignore_eos=True, stream=True)
    with raw_connections(target.url, 50, receive_buffer=2048) as connections:
        for connection in connections:
            connection.send(target.request(endless))
        until_running(target, 50, 5)
        assert_canary(target)
        until_running(target, 0, 60)
        for connection in connections:
            reply = connection.read(1)
            assert reply.is_closed
            assert b"[DONE]" not in reply.data


def test_f8_crowd_beyond_the_open_files_leaves_the_server_working(target: Target) -> None:
    """Whoever is there already is served meanwhile, everybody after; the processor has rest."""
    process = psutil.Process(target.pid)
    limits = process.rlimit(psutil.RLIMIT_NOFILE)
    with ExitStack() as stack, target.client() as client:
        assert client.get(target.live_path).status_code == 200
        stack.callback(process.rlimit, psutil.RLIMIT_NOFILE, limits)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 50, limits[1]))
        stack.enter_context(raw_connections(target.url, 300))

        busy, started = target.cpu_seconds, time.monotonic()
        while time.monotonic() < started + 2:
            assert client.get(target.live_path).status_code == 200
            time.sleep(0.02)
        assert target.cpu_seconds - busy < 1
    assert_canary(target)


def test_f8_our_server_keeps_files_for_its_own_work() -> None:
    """More connections than it may open files for are told so."""
    with our_server(most_files=256) as target:
        with raw_connections(target.url, 400) as connections:
            replies = [connection.read(1, until=b"}") for connection in connections[-100:]]
            num_files = psutil.Process(target.pid).num_fds()
        assert {reply.status for reply in replies} == {503}
        assert num_files < 256 - 32
        assert_canary(target)
