#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a server does with clients that are slow, broken or rude.

    http_limits.py [-k NAME] COMMAND...

In the command, {port} becomes a free loopback port and {data} a directory for
data. Each case talks to that one server over raw sockets; those that wait for
a time limit run side by side, so that all takes little longer than the longest
limit. Only the standard library is needed. The last line says
"N passed, N failed"; the exit status is 1 if any failed.
"""

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

FIRST_BYTE_SECONDS = 10
HEAD_SECONDS = 30
BODY_SECONDS = 30
SLACK_SECONDS = 4

HEALTH = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
PORT = 0
SERVER = None


def connect():
    client = socket.create_connection(("127.0.0.1", PORT))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.settimeout(60)
    return client


def post(path, body, headers=b""):
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n%s" % (
        path, headers, len(body), body)


def read_answer(client):
    """One answer as (status, headers, body); None when the server closed instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            part = client.recv(65536)
        except ConnectionResetError:
            return None
        if not part:
            return None
        data += part
    head, body = data.split(b"\r\n\r\n", 1)
    lines = head.split(b"\r\n")
    headers = {}
    for line in lines[1:]:
        name, value = line.split(b":", 1)
        headers[name.lower()] = value.strip()
    length = int(headers.get(b"content-length", b"0"))
    while len(body) < length:
        part = client.recv(65536)
        if not part:
            break
        body += part
    return int(lines[0].split()[1]), headers, body


def is_closed(client):
    try:
        while True:
            if not client.recv(65536):
                return True
    except (ConnectionResetError, BrokenPipeError):
        return True
    except socket.timeout:
        return False


def seconds_until_closed(client):
    start = time.monotonic()
    assert is_closed(client), "still open after %d s" % (time.monotonic() - start)
    return time.monotonic() - start


def drip(client, data, pause):
    """Sends a byte at a time until the server closes; returns the seconds that took."""
    start = time.monotonic()
    client.settimeout(pause)
    for at in range(len(data)):
        try:
            client.sendall(data[at:at + 1])
            if not client.recv(1):
                break
        except socket.timeout:
            continue
        except (ConnectionResetError, BrokenPipeError):
            break
    else:
        raise AssertionError("all was taken, in %.1f s" % (time.monotonic() - start))
    return time.monotonic() - start


def expect_between(value, low, high):
    assert low <= value <= high, "%.1f s is not between %d and %d" % (value, low, high)


def metric(name):
    client = connect()
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    text = read_answer(client)[2].decode()
    client.close()
    for line in text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError("no metric %s" % name)


# ---- Time limits ----

def a_silent_connection_is_closed_after_ten_seconds():
    client = connect()
    expect_between(seconds_until_closed(client), FIRST_BYTE_SECONDS - 1, FIRST_BYTE_SECONDS + SLACK_SECONDS)


def half_a_preface_is_closed_after_ten_seconds():
    client = connect()
    client.sendall(b"PRI * HT")
    expect_between(seconds_until_closed(client), FIRST_BYTE_SECONDS - 1, FIRST_BYTE_SECONDS + SLACK_SECONDS)


def a_dripping_request_line_is_cut_off():
    client = connect()
    took = drip(client, b"GET /" + b"a" * 200 + b" HTTP/1.1\r\n", 0.5)
    expect_between(took, HEAD_SECONDS - 2, HEAD_SECONDS + SLACK_SECONDS)


def dripping_headers_are_cut_off():
    client = connect()
    client.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n")
    took = drip(client, b"X-Slow: " + b"a" * 200, 0.5)
    expect_between(took, HEAD_SECONDS - 2, HEAD_SECONDS + SLACK_SECONDS)


def a_dripping_body_is_cut_off():
    client = connect()
    client.sendall(b"POST /v3/kv/range HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
    took = drip(client, b" " * 500, 0.5)
    expect_between(took, BODY_SECONDS - 2, BODY_SECONDS + SLACK_SECONDS)


def a_dripping_chunked_body_is_cut_off():
    client = connect()
    client.sendall(b"POST /v3/kv/range HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    took = drip(client, b"1\r\n \r\n" * 60, 0.5)
    expect_between(took, BODY_SECONDS - 2, BODY_SECONDS + SLACK_SECONDS)


def an_idle_connection_outlives_the_other_limits():
    client = connect()
    for pause in (0, HEAD_SECONDS + SLACK_SECONDS):
        time.sleep(pause)
        client.sendall(HEALTH)
        assert read_answer(client)[0] == 200


def a_request_in_small_pieces_is_answered():
    client = connect()
    for byte in post(b"/v3/kv/range", b'{"key":"YQ=="}'):
        client.sendall(bytes([byte]))
        time.sleep(0.01)
    assert read_answer(client)[0] == 200


# ---- Sizes ----

def a_head_of_seven_kilobytes_is_taken():
    client = connect()
    client.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 6900 + b"\r\n\r\n")
    assert read_answer(client)[0] == 200


def a_head_of_nine_kilobytes_is_refused():
    client = connect()
    client.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n")
    answer = read_answer(client)
    assert answer is None or answer[0] in (400, 413, 431), answer


def a_body_that_is_too_large_is_read_and_refused():
    client = connect()
    client.sendall(post(b"/v3/kv/put", b'{"key":"YQ==","value":"' + b"QUFB" * (4 << 20) + b'"}'))
    status, _, body = read_answer(client)
    assert status == 429 and b"larger than max" in body, (status, body)
    client.sendall(HEALTH)
    assert read_answer(client)[0] == 200


def a_body_without_end_is_cut_off():
    client = connect()
    client.sendall(b"POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    try:
        for _ in range(80):
            client.sendall(chunk)
    except (ConnectionResetError, BrokenPipeError):
        return
    assert is_closed(client)


# ---- Smuggling ----

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
AMBIGUOUS = [
    b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(SMUGGLED),
    b"Content-Length: 0, %d\r\n" % len(SMUGGLED),
    b"Content-Length: +0\r\n",
    b"Content-Length: 0x0\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Content-Length : 0\r\n",
    b"Host: other\r\n",
]


def nothing_is_smuggled():
    for headers in AMBIGUOUS:
        client = connect()
        client.sendall(b"POST /v3/kv/range HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n" + SMUGGLED)
        data = b""
        client.settimeout(5)
        try:
            while True:
                part = client.recv(65536)
                if not part:
                    break
                data += part
        except ConnectionResetError:
            pass
        except socket.timeout:
            raise AssertionError("left open after %r" % headers)
        assert data[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 501", b""), (headers, data[:200])
        assert b"404" not in data, (headers, data)


# ---- Leaving ----

def http_2_without_its_module_is_closed():
    client = connect()
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    assert is_closed(client)


PARTS = [
    b"", b"P", b"POST /v3", b"POST /v3/kv/range HTTP/1.1\r\nHo", b"PRI * HTTP/2.0\r\n",
    b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{",
    post(b"/v3/kv/put", b'{"key":"YQ==","value":"Yg=="}'),
    post(b"/v3/kv/range", b'{"key":"YQ=="}'),
    post(b"/v3/kv/put", b'{"key":"YQ==","value":"Yg=="}') * 5 + b"GET /",
    HEALTH * 20,
    b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
]


def clients_that_vanish_leave_nothing():
    chance = random.Random(7)
    clients = []
    for _ in range(4000):
        if len(clients) > 200:
            client = clients.pop(chance.randrange(len(clients)))
            if chance.random() < 0.5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        client = connect()
        try:
            client.sendall(chance.choice(PARTS))
        except (ConnectionResetError, BrokenPipeError):
            pass
        clients.append(client)
    for client in clients:
        client.close()
    deadline = time.monotonic() + 20
    while len(os.listdir("/proc/%d/fd" % SERVER.pid)) > FDS_BEFORE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(os.listdir("/proc/%d/fd" % SERVER.pid)) <= FDS_BEFORE
    assert metric("keta_http_connections") == 1, "the one that asks"
    assert metric("keta_http_suspended_requests") == 0


def many_idle_connections_are_cheap():
    count = 2000
    before = metric("process_resident_memory_bytes")
    clients = []
    for _ in range(count):
        client = connect()
        client.sendall(HEALTH)
        clients.append(client)
    for client in clients:
        assert read_answer(client)[0] == 200
    grown = metric("process_resident_memory_bytes") - before
    for client in clients:
        client.close()
    with open("/proc/%d/maps" % SERVER.pid) as maps:
        each = 20 * 1024 if "libasan" in maps.read() else 10 * 1024
    assert grown < count * each, "%d bytes each" % (grown / count)


WAITING = [
    a_silent_connection_is_closed_after_ten_seconds,
    half_a_preface_is_closed_after_ten_seconds,
    a_dripping_request_line_is_cut_off,
    dripping_headers_are_cut_off,
    a_dripping_body_is_cut_off,
    a_dripping_chunked_body_is_cut_off,
    an_idle_connection_outlives_the_other_limits,
]
QUICK = [
    a_request_in_small_pieces_is_answered,
    a_head_of_seven_kilobytes_is_taken,
    a_head_of_nine_kilobytes_is_refused,
    a_body_that_is_too_large_is_read_and_refused,
    a_body_without_end_is_cut_off,
    nothing_is_smuggled,
    http_2_without_its_module_is_closed,
    clients_that_vanish_leave_nothing,
    many_idle_connections_are_cheap,
]


def run(case, results):
    try:
        case()
        results[case.__name__] = None
    except Exception:
        results[case.__name__] = traceback.format_exc()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, data):
    global PORT, SERVER
    PORT = free_port()
    SERVER = subprocess.Popen([word.replace("{port}", str(PORT)).replace("{data}", data) for word in command])
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            client = connect()
            client.sendall(HEALTH)
            if read_answer(client)[0] == 200:
                client.close()
                return
        except (OSError, TypeError):
            time.sleep(0.05)
    raise SystemExit("the server did not start")


def main():
    global FDS_BEFORE
    arguments = sys.argv[1:]
    only = None
    if arguments[:1] == ["-k"]:
        only = arguments[1]
        arguments = arguments[2:]
    if not arguments:
        raise SystemExit(__doc__)
    data = tempfile.mkdtemp(prefix="keta-limits-")
    results = {}
    try:
        start(arguments, os.path.join(data, "data"))
        time.sleep(0.2)
        FDS_BEFORE = len(os.listdir("/proc/%d/fd" % SERVER.pid))
        for case in QUICK:
            if only is None or only in case.__name__:
                run(case, results)
        threads = [threading.Thread(target=run, args=(case, results))
                   for case in WAITING if only is None or only in case.__name__]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        SERVER.send_signal(signal.SIGTERM)
        results["the_server_stops_when_told"] = None if SERVER.wait(20) == 0 else "exit status"
    finally:
        if SERVER is not None and SERVER.poll() is None:
            SERVER.kill()
            SERVER.wait()
        shutil.rmtree(data, ignore_errors=True)
    for name, error in results.items():
        print("%s %s" % ("FAIL" if error else "ok  ", name))
        if error:
            print(error)
    failed = sum(1 for error in results.values() if error)
    print("%d passed, %d failed" % (len(results) - failed, failed))
    return 1 if failed else 0


FDS_BEFORE = 0

if __name__ == "__main__":
    sys.exit(main())
