# SPDX-License-Identifier: Apache-2.0
"""What the tests of streams share: a server of either kind on a free port, calls
to its JSON gateway, and streams over HTTP or WebSocket that give one message
after the other.

The tests are started alike:

    TEST [--etcd | --kafka] [OPTION...] SERVER

SERVER is ketad, or with --etcd the etcd that it must be like. With --kafka it is
ketad as a node of a replicated store, over a Kafka that is started for it."""

import argparse
import base64
import contextlib
import http.client
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import websocket

HOST = "127.0.0.1"
START_LIMIT_SEC = 20
STOP_LIMIT_SEC = 20
BROKEN = (OSError, http.client.HTTPException, json.JSONDecodeError)  # what a lost connection raises


class Failure(Exception):
    """The server is not as it should be."""


def expect(condition, text, *details):
    if not condition:
        raise Failure(text % details if details else text)


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def unb64(text):
    return base64.b64decode(text)


def after_prefix(prefix):
    """The end of the range of all keys that begin with 'prefix'."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


def poll(condition, limit_sec, what, pause_sec=0.02):
    """Waits until 'condition' gives something true, and returns that."""
    deadline = time.monotonic() + limit_sec
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure("%s: not within %g seconds" % (what, limit_sec))
        time.sleep(pause_sec)


# ---------------------------------------------------------------- calls

class Gateway:
    """One connection for calls, kept open."""

    def __init__(self, port, timeout=20):
        self.connection = http.client.HTTPConnection(HOST, port, timeout=timeout)

    def call(self, method, body):
        """Status and answer; one of BROKEN when the connection is lost."""
        try:
            self.connection.request("POST", "/v3/" + method, json.dumps(body))
            response = self.connection.getresponse()
            return response.status, json.loads(response.read())
        except BROKEN:
            self.connection.close()
            raise

    def must(self, method, body):
        status, answer = self.call(method, body)
        expect(status == 200, "%s %s answered %s %s", method, str(body)[:300], status, answer)
        return answer

    def put(self, key, value, **more):
        return revision_of(self.must("kv/put", {"key": b64(key), "value": b64(value), **more}))

    def get(self, path):
        """Status and text of a plain GET."""
        try:
            self.connection.request("GET", path)
            response = self.connection.getresponse()
            return response.status, response.read().decode()
        except BROKEN:
            self.connection.close()
            raise

    def close(self):
        self.connection.close()


def revision_of(answer):
    return int(answer["header"]["revision"])


# ---------------------------------------------------------------- streams

class Lines:
    """The lines of an answer's body as they come: feed bytes, take lines. An
    answer that is complete at once may come with its length, others in chunks."""

    def __init__(self, headers):
        self.left = int(headers["content-length"]) if "content-length" in headers else None
        if self.left is None and headers.get("transfer-encoding", "").lower() != "chunked":
            raise Failure("neither length nor chunks: %s" % headers)
        self.data = bytearray()  # of a chunk that is not whole
        self.line = bytearray()
        self.lines = []
        self.ended = self.left == 0

    def feed(self, data):
        self.data += data
        if self.left is not None:
            self.left -= len(data)
            self.take(self.data)
            self.data = bytearray()
            self.ended = self.left <= 0
        while self.left is None and not self.ended and self.take_chunk():
            pass

    def take_chunk(self):
        at = self.data.find(b"\r\n")
        if at < 0:
            return False
        size = int(self.data[:at].split(b";")[0], 16)
        if len(self.data) < at + 2 + size + 2:
            return False
        self.take(self.data[at + 2:at + 2 + size])
        del self.data[:at + 2 + size + 2]
        self.ended = size == 0
        return True

    def take(self, data):
        self.line += data
        *whole, rest = self.line.split(b"\n")
        self.lines += [bytes(line) for line in whole if line]
        self.line = bytearray(rest)


class HttpStream:
    """A POST whose answer does not end: one JSON message per line."""

    def __init__(self, port, path, body, headers=None, timeout=20, receive_buffer=None):
        self.body = None  # Lines, after the head
        self.status = None
        self.whole = False  # the answer has ended as it should
        self.sock = socket.socket()
        try:
            if receive_buffer:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.sock.settimeout(timeout)
            self.sock.connect((HOST, port))
            data = json.dumps(body).encode()
            lines = ["POST %s HTTP/1.1" % path, "Host: %s:%d" % (HOST, port),
                     "Content-Type: application/json", "Content-Length: %d" % len(data)]
            lines += ["%s: %s" % header for header in (headers or {}).items()]
            self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + data)
        except BaseException:
            self.sock.close()
            raise
        self.head = b""

    def next(self, timeout):
        """The next message; None when the stream has ended. TimeoutError."""
        deadline = time.monotonic() + timeout
        while self.body is None or not self.body.lines:
            if self.body is not None and self.body.ended:
                self.whole = True
                return None
            self.sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.sock.recv(262144)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.take(data)
        return json.loads(self.body.lines.pop(0))

    def take(self, data):
        if self.body is None:
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            head, data = self.head.split(b"\r\n\r\n", 1)
            self.status, headers = websocket.parse_head(head)
            expect(self.status == 200, "the stream was answered %d %.300s", self.status, data)
            self.body = Lines(headers)
        self.body.feed(data)

    def close(self, polite=True):
        self.sock.close()


class WebSocketStream:
    """The same over a WebSocket; here one can send messages as well."""

    def __init__(self, port, path, body=None, headers=None, timeout=20, receive_buffer=None):
        self.socket = websocket.WebSocket(port, path, headers, HOST, timeout, receive_buffer)
        self.status = 101
        if body is not None:
            self.send(body)

    def send(self, body):
        self.socket.send(json.dumps(body))

    def next(self, timeout):
        message = self.socket.receive(timeout)
        return None if message is None else json.loads(message)

    def close(self, polite=True):
        self.socket.close(polite)


TRANSPORTS = {"http": HttpStream, "websocket": WebSocketStream}


def result_of(message):
    """What a stream's message says; a Failure when it is an error or the end."""
    expect(message is not None, "the stream has ended")
    expect("result" in message, "the stream says %s", message)
    return message["result"]


# ---------------------------------------------------------------- servers

def free_ports(count):
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Server:
    """A server with a directory of its own; it can be started again in it.

        with Server(options) as server: ...

    The directory goes at the end, unless something failed. 'kafka' is one that others
    use too; without it a server that needs a Kafka has its own."""

    def __init__(self, options, arguments=(), name="keta-e2e", kafka=None):
        self.command = [os.path.abspath(options.server) if os.path.dirname(options.server) else options.server]
        self.command += arguments
        self.is_etcd = options.etcd
        self.kafka, self.own_kafka = kafka, None
        if options.kafka and kafka is None:
            from kafka import KafkaCluster  # which is made with what is here
            self.kafka = self.own_kafka = KafkaCluster()
        self.directory = tempfile.mkdtemp(prefix=name + "-")
        self.log = open(os.path.join(self.directory, "server.log"), "ab")
        self.process = None
        self.port = 0
        self.keep = False  # the directory

    def start(self):
        """Returns the seconds until it answered a linearizable read."""
        self.stop()
        self.port, peer = free_ports(2)
        url = "http://%s:%d" % (HOST, self.port)
        command = self.command + ["--data-dir", os.path.join(self.directory, "data"), "--listen-client-urls", url]
        if self.is_etcd:
            command += ["--advertise-client-urls", url, "--listen-peer-urls", "http://%s:%d" % (HOST, peer),
                        "--log-level", "error", "--unsafe-no-fsync"]
        if self.kafka:
            command += self.kafka_arguments()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        started = time.monotonic()
        poll(self.is_ready, START_LIMIT_SEC, "an answer after the start")
        return time.monotonic() - started

    def kafka_arguments(self):
        properties = {"kafkacache.bootstrap.servers": self.kafka.bootstrap, "kafkacache.topic.replication.factor": 1,
                      "kafkacache.group.id": os.path.basename(self.directory)}
        return [word for item in properties.items() for word in ("--set", "%s=%s" % item)]

    def is_ready(self):
        expect(self.process.poll() is None, "the server ended with %s", self.process.returncode)
        gateway = Gateway(self.port, timeout=2)
        try:
            if gateway.call("kv/range", {"key": b64("k")})[0] != 200:
                return False
            # A node reads and writes without a leader too, but then no lease ends.
            return not self.kafka or "\netcd_server_has_leader 1\n" in gateway.get("/metrics")[1]
        except BROKEN:
            return False
        finally:
            gateway.close()

    def gateway(self):
        return Gateway(self.port)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self):
        """Asks it to end, and says how it did."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_LIMIT_SEC)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure("the server did not stop on SIGTERM") from None
        # Sanitizers speak by the exit status as well.
        expect(self.is_etcd or self.process.returncode == 0, "the server ended with %s", self.process.returncode)

    def __enter__(self):
        try:
            if self.own_kafka:
                self.own_kafka.start()
            self.start()
        except BaseException:
            self.__exit__(Failure, None, None)
            raise
        return self

    def __exit__(self, kind, value, trace):
        died = self.process.poll() if self.process else None
        try:
            if died is not None and kind is None:
                kind = Failure
                raise Failure("the server has ended with %s" % died)
            try:
                self.stop()
            except Failure:
                kind = kind or Failure
                raise
        finally:
            self.log.close()
            if self.own_kafka:
                self.own_kafka.stop()
            if kind is None and not self.keep:
                shutil.rmtree(self.directory)
            else:
                print("data and log are kept in " + self.directory, flush=True)


class Cluster:
    """Nodes of one replicated store, used like one Server: each connection is to another
    node than the one before, since 'port' is another's each time."""

    def __init__(self, options, count, name="keta-e2e"):
        first = Server(options, name=name)
        self.servers = [first] + [Server(options, name=name, kafka=first.kafka) for _ in range(count - 1)]
        self.turns = itertools.cycle(self.servers)
        self.stack = contextlib.ExitStack()
        self.keep = False

    @property
    def port(self):
        return next(self.turns).port

    def gateway(self):
        return Gateway(self.port)

    def states(self):
        """What each node makes of the log, by its hash, when all are equally far."""
        def same_place():
            found = []
            for server in self.servers:
                gateway = server.gateway()
                lines = gateway.get("/metrics")[1].splitlines()
                gateway.close()
                found.append([line for name in ("keta_log_applied_offset ", "keta_state_hash{")
                              for line in lines if line.startswith(name)])
            return len({offset for offset, _ in found}) == 1 and [state for _, state in found]
        return poll(same_place, START_LIMIT_SEC, "all nodes at one offset")

    def __enter__(self):
        with self.stack:
            for server in self.servers:
                self.stack.enter_context(server)
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *failure):
        for server in self.servers:
            server.keep = self.keep
        return self.stack.__exit__(*failure)


# ---------------------------------------------------------------- tests

def arguments(doc, seeded=True):
    """A parser with what all tests take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", metavar="SERVER")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--etcd", action="store_true", help="SERVER is etcd")
    kinds.add_argument("--kafka", action="store_true", help="SERVER keeps its log in a Kafka, started for this")
    if seeded:
        seed = int(os.environ.get("KETA_SEED") or random.randrange(10 ** 9))
        parser.add_argument("--seed", type=int, default=seed, help="repeats a run; or KETA_SEED")
    return parser


def run_tests(tests, context, server):
    """Calls each with 'context', says what failed, and returns the exit status."""
    failed = 0
    for test in tests:
        name = test.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            test(context)
            print("ok: %s (%.1f s)" % (name, time.monotonic() - started), flush=True)
        except (Failure, AssertionError, websocket.ProtocolError, websocket.NotSwitched, *BROKEN) as error:
            failed += 1
            server.keep = True
            print("FAILED: %s: %s: %s" % (name, type(error).__name__, error), flush=True)
    print("%d passed, %d failed" % (len(tests) - failed, failed))
    return 1 if failed else 0
