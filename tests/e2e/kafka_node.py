# SPDX-License-Identifier: Apache-2.0
"""Nodes of a replicated store for tests: ketad over a KafkaCluster, what a node
says in its log, the commands that it names, and records that no node wrote.

    TEST [--kafka VERSION] [--test NAME]... KETAD"""

import argparse
import glob
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import zipfile

import websocket
from gateway import BROKEN, HOST, Failure, Gateway, b64, expect, poll, unb64
from kafka import ADMIN, TOOL_OPTIONS, Request, free_ports

READY_LIMIT_SEC = 40
STOP_LIMIT_SEC = 30
REFUSAL_LIMIT_SEC = 60
LEADER_LIMIT_SEC = 40
COMMAND_LIMIT_SEC = 120
BAD_CONFIG, BAD_DATA = 78, 65
TOPICS = ["commits", "kv", "leases", "auth", "auth_users", "auth_roles", "timestamps", "election"]


class Node:
    """A node that can be started again on its data. 'servers' is where it finds
    Kafka, if not at the usual place; 'settings' are any keys of the configuration."""

    def __init__(self, world, prefix, name="n0", servers=None, factor=1, **settings):
        self.world, self.prefix, self.name = world, prefix, name
        self.directory = os.path.join(world.directory, prefix + name)
        self.data = os.path.join(self.directory, "data")
        self.settings = {"topic.prefix": prefix, "kafkacache.group.id": name, "kafkacache.data.dir": self.data,
                         "kafkacache.bootstrap.servers": servers or world.kafka.bootstrap,
                         "kafkacache.topic.replication.factor": factor}
        self.settings.update({key.replace("__", "."): value for key, value in settings.items()})
        os.makedirs(self.directory, exist_ok=True)
        self.log_path = os.path.join(self.directory, "node.log")
        self.process = None
        self.port = free_ports(1)[0]
        self.log_from = 0
        world.nodes.append(self)

    def command(self, *arguments):
        command = [self.world.ketad, "--log-format", "json", *arguments]
        for item in dict(self.settings, listeners="http://%s:%d" % (HOST, self.port)).items():
            command += ["--set", "%s=%s" % item]
        return command

    def launch(self):
        expect(not self.is_running(), "%s runs already", self.name)
        self.log_from = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def start(self, limit_sec=READY_LIMIT_SEC):
        self.launch()
        return self.wait_ready(limit_sec)

    def wait_ready(self, limit_sec=READY_LIMIT_SEC):
        """Returns the seconds that it took."""
        begun = time.monotonic()

        def is_ready():
            expect(self.is_running(), "%s ended with %s:\n%s", self.name, self.process.returncode, self.tail())
            return self.get("/readyz")[0] == 200
        try:
            poll(is_ready, limit_sec, "%s ready" % self.name)
        except Failure as error:
            raise Failure("%s\n%s" % (error, self.tail())) from None
        return time.monotonic() - begun

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def end(self, limit_sec=REFUSAL_LIMIT_SEC):
        """Waits for it to end by itself; returns its exit status."""
        try:
            return self.process.wait(limit_sec)
        except subprocess.TimeoutExpired:
            raise Failure("%s has not ended within %g seconds:\n%s" % (self.name, limit_sec, self.tail())) from None

    def refuse(self, status, *texts, limit_sec=REFUSAL_LIMIT_SEC):
        """Starts it; it must not become ready and end so, with each text on a line of its log. Returns the lines."""
        self.launch()
        return self.expect_end(status, *texts, limit_sec=limit_sec)

    def expect_end(self, status, *texts, limit_sec=REFUSAL_LIMIT_SEC):
        found = self.end(limit_sec)
        expect(found == status, "%s ended with %d, not %d:\n%s", self.name, found, status, self.tail())
        for text in texts:
            self.expect_said(text)
        return self.lines()

    def stop(self):
        """In order, which it must do."""
        if not self.is_running():
            return
        self.process.send_signal(signal.SIGTERM)
        self.expect_end(0, limit_sec=STOP_LIMIT_SEC)

    def kill(self):
        if self.is_running():
            self.process.kill()
            self.process.wait()

    def signal(self, number=signal.SIGUSR1):
        self.process.send_signal(number)

    # ------------------------------------------------------------ its log

    def lines(self):
        """Of this start, decoded; what is no JSON stands as a message."""
        with open(self.log_path, errors="replace") as log:
            log.seek(self.log_from)
            return [json.loads(line) if line.startswith("{") and line.endswith("}\n") else {"message": line.strip()}
                    for line in log]

    def tail(self, count=12):
        return "\n".join(json.dumps(line) for line in self.lines()[-count:])

    def find(self, text):
        """The lines that have it in any of their fields."""
        return [line for line in self.lines() if any(text in str(value) for value in line.values())]

    def expect_said(self, text, limit_sec=0):
        try:
            return poll(lambda: self.find(text), limit_sec, repr(text))[-1]
        except Failure:
            raise Failure("%s does not say %r:\n%s" % (self.name, text, self.tail(20))) from None

    def commands(self):
        """Those that its log names, each once."""
        found = []
        for line in self.lines():
            for value in line.values():
                for text in re.findall(r"(?:^|: |then )((?:kafka-[a-z-]+\.sh|echo) .+)$", str(value), re.MULTILINE):
                    if text not in found:
                        found.append(text)
        return found

    # ------------------------------------------------------------ calls

    def get(self, path, timeout=10):
        """Status and text; (0, "") when nobody answers."""
        gateway = Gateway(self.port, timeout)
        try:
            return gateway.get(path)
        except BROKEN:
            return 0, ""
        finally:
            gateway.close()

    def call(self, method, body, timeout=20, headers=None):
        """Status, answer; (0, {}) when the connection was lost."""
        gateway = Gateway(self.port, timeout)
        try:
            gateway.connection.request("POST", "/v3/" + method, json.dumps(body), headers or {})
            response = gateway.connection.getresponse()
            return response.status, json.loads(response.read())
        except BROKEN:
            return 0, {}
        finally:
            gateway.close()

    def must(self, method, body):
        status, answer = self.call(method, body)
        expect(status == 200, "%s: %s %s answered %s %s", self.name, method, str(body)[:200], status, answer)
        return answer

    def put(self, key, value, **more):
        return int(self.must("kv/put", {"key": b64(key), "value": b64(value), **more})["header"]["revision"])

    def read(self, key, **more):
        """The value, or None."""
        kvs = self.must("kv/range", {"key": b64(key), **more}).get("kvs", [])
        return unb64(kvs[0]["value"]).decode() if kvs else None

    def dump(self):
        """All that there is, history and leases included, in a form to be compared."""
        everything = {"key": b64("\0"), "range_end": b64("\0")}
        now = self.must("kv/range", everything)
        last = int(now["header"]["revision"])
        history = []
        for revision in range(2, last + 1):
            status, answer = self.call("kv/range", dict(everything, revision=revision, serializable=True))
            history.append(answer["kvs"] if status == 200 and "kvs" in answer else status)
        leases = []
        for lease in self.must("lease/leases", {}).get("leases", []):
            granted = self.must("lease/timetolive", {"ID": lease["ID"], "keys": True})
            leases.append((lease["ID"], granted["grantedTTL"], sorted(granted.get("keys", []))))
        return last, now.get("kvs", []), history, sorted(leases)

    def metrics(self):
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in self.get("/metrics")[1].splitlines() if line and line[0] != "#")}

    def leads(self):
        return self.metrics().get("etcd_server_is_leader") == 1

    def checkpoint(self, limit_sec=30):
        """Asks it, the leader, for one, and waits for that."""
        poll(self.leads, LEADER_LIMIT_SEC, "%s leads" % self.name)
        before = self.metrics()["keta_checkpoint_offset"]
        self.signal()
        poll(lambda: self.metrics()["keta_checkpoint_offset"] > before, limit_sec, "a checkpoint")


def leader_of(nodes):
    return poll(lambda: [node for node in nodes if node.is_running() and node.leads()], LEADER_LIMIT_SEC, "a leader")[0]


def hashes(nodes):
    """What each makes of the log, when all are equally far."""
    def same_place():
        found = [node.metrics() for node in nodes]
        places = {each["keta_log_applied_offset"] for each in found}
        return len(places) == 1 and [next(name for name in each if name.startswith("keta_state_hash"))
                                     for each in found]
    return poll(same_place, READY_LIMIT_SEC, "all nodes at one offset")


class World:
    """What a test program has: the server, a Kafka, nodes; it ends and removes all."""

    def __init__(self, ketad, kafka):
        self.ketad, self.kafka = os.path.abspath(ketad), kafka
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="keta-nodes-"))
        self.tools = None
        self.nodes = []
        self.keep = False
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.kill_all()
        if kind is None and not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            print("logs are kept in " + self.directory, flush=True)

    def kill_all(self):
        for node in self.nodes:
            node.kill()
        self.nodes = []

    def prefix(self):
        """A new one, so that tests do not see each other's topics."""
        self.count += 1
        return "t%d_" % self.count

    def make_tools(self):
        """Kafka's scripts under the names that messages give them, for a shell."""
        self.tools = os.path.join(self.directory, "tools")
        os.mkdir(self.tools)
        with zipfile.ZipFile(glob.glob(os.path.join(self.kafka.jars, "kafka-tools-[0-9]*.jar"))[0]) as tools:
            has_acls = "org/apache/kafka/tools/AclCommand.class" in tools.namelist()  # since Kafka 4.1
        classes = {"configs": "kafka.admin.ConfigCommand", "topics": "org.apache.kafka.tools.TopicCommand",
                   "acls": "org.apache.kafka.tools.AclCommand" if has_acls else "kafka.admin.AclCommand",
                   "reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"}
        for name, program in classes.items():
            path = os.path.join(self.tools, "kafka-%s.sh" % name)
            with open(path, "w") as out:
                out.write("#!/bin/sh\nexec %s \"$@\"\n" % " ".join(
                    "'%s'" % word for word in self.kafka.java(TOOL_OPTIONS, program)))
            os.chmod(path, 0o755)
        if self.kafka.sasl or self.kafka.tls:
            shutil.copy(self.kafka.java_properties(ADMIN), os.path.join(self.tools, "admin.properties"))

    def run(self, command):
        """Runs what a message says, as it stands, as the admin."""
        if self.tools is None:
            self.make_tools()
        done = subprocess.run(command, shell=True, cwd=self.tools, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=dict(os.environ, PATH=self.tools + ":" + os.environ["PATH"]), text=True,
                              stdin=subprocess.DEVNULL, timeout=COMMAND_LIMIT_SEC)
        expect(done.returncode == 0 and "Error" not in done.stdout, "%s\nfailed:\n%s", command, done.stdout)
        return done.stdout

    def mend(self, node):
        """Runs each command that the node's log names."""
        commands = node.commands()
        expect(commands, "%s names no command:\n%s", node.name, node.tail())
        for command in commands:
            self.run(command)
        return commands


# ---------------------------------------------------------------- records of others

CRC_TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    CRC_TABLE.append(number)

HEAD = struct.Struct(">qiibIhiqqqhii")  # of a record batch, up to its records
LOG_APPEND_TIME = 8


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def varint(value):
    value, data = value << 1, bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def seal(records, count, times):
    """A batch as a producer without identity sends it."""
    tail = struct.pack(">hiqqqhii", 0, count - 1, *times, -1, -1, -1, count) + records
    return struct.pack(">qiibI", 0, len(tail) + 9, 0, 2, crc32c(tail)) + tail


def batch_of(values):
    records = b""
    for number, value in enumerate(values):
        body = b"\0" + varint(0) + varint(number) + b"\1" + varint(len(value)) + value + varint(0)
        records += varint(len(body)) + body
    now = int(time.time() * 1000)
    return seal(records, len(values), (now, now))


def append_batch(kafka, topic, batch):
    """Returns the offset that it got."""
    def question(wire):
        request = Request().text(None).add("hii", -1, 10000, 1).text(topic).add("iii", 1, 0, len(batch))
        request.data += batch
        answer = wire.call(0, 3, request)
        return answer.array(lambda: (answer.text(), answer.array(lambda: answer.take("ihqq"))))[0][1][0][1:3]
    return kafka.ask(question, "append to " + topic, lambda: kafka.leader_of(topic))


def append_records(kafka, topic, *values):
    return append_batch(kafka, topic, batch_of(values))


def read_batches(kafka, topic):
    """All batches: (first offset, the records as they stand, their number, times)."""
    end, at, found = kafka.end_offset(topic), kafka.end_offset(topic, timestamp=-2), []

    def question(wire):
        request = Request().add("iiii", -1, 500, 1, 32 << 20).add("b", 0).add("i", 1).text(topic)
        answer = wire.call(1, 4, request.add("iiqi", 1, 0, at, 32 << 20))
        answer.take("i")
        expect(answer.take("i") == 1, "no topic in the answer")
        answer.text()
        expect(answer.take("i") == 1, "no partition in the answer")
        code = answer.take("ihqq")[1]
        answer.array(lambda: answer.take("qq"))
        length = answer.take("i")
        return code, answer.data[answer.at:answer.at + length]
    while at < end:
        data = kafka.ask(question, "fetch " + topic, lambda: kafka.leader_of(topic))
        expect(data, "nothing at offset %d of %s", at, topic)
        while len(data) > HEAD.size:
            head = HEAD.unpack_from(data)
            first, length, flags, last, times, count = head[0], head[1] + 12, head[5], head[6], head[7:9], head[12]
            if len(data) < length:
                break
            expect(flags & 7 == 0 and count == last + 1, "batch %d of %s is compressed or compacted", first, topic)
            if first >= at:
                found.append((first, data[HEAD.size:length], count, times))
                at = first + count
            data = data[length:]
    return found


def copy_records(kafka, batches, topic, before=None):
    """Appends the records of these batches to a topic, up to the batch that would reach 'before'."""
    for first, records, count, times in batches:
        if before is not None and first + count > before:
            break
        append_batch(kafka, topic, seal(records, count, times))
    return kafka.end_offset(topic)


def delete_records(kafka, topic, before):
    """The log begins at 'before' afterwards."""
    def question(wire):
        request = Request().add("i", 1).text(topic).add("iiqi", 1, 0, before, 10000)
        answer = wire.call(21, 1, request)
        answer.take("i")
        return answer.array(lambda: (answer.text(), answer.array(lambda: answer.take("iqh"))))[0][1][0][2], None
    kafka.ask(question, "delete records of " + topic, lambda: kafka.leader_of(topic))


# ---------------------------------------------------------------- tests

def arguments(doc, tests):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ketad", metavar="KETAD")
    parser.add_argument("--kafka", metavar="VERSION", help="of Kafka, if not the usual one")
    parser.add_argument("--test", action="append", choices=[test.__name__ for test in tests], help="only this one")
    return parser


def chosen(options, tests):
    return [test for test in tests if not options.test or test.__name__ in options.test]


def run_tests(tests, world):
    """Calls each, says what failed, and returns the exit status."""
    failed = 0
    for test in tests:
        name = test.__name__.replace("_", " ")
        started = time.monotonic()
        try:
            test(world)
            print("ok: %s (%.1f s)" % (name, time.monotonic() - started), flush=True)
        except (Failure, AssertionError, KeyError, subprocess.SubprocessError, websocket.ProtocolError,
                websocket.NotSwitched, *BROKEN) as error:
            failed += 1
            world.keep = True
            print("FAILED: %s: %s: %s" % (name, type(error).__name__, error), flush=True)
        world.kill_all()
        if world.kafka.proxy:
            world.kafka.proxy.heal()
    print("%d passed, %d failed" % (len(tests) - failed, failed))
    return 1 if failed else 0
