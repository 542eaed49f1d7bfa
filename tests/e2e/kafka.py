# SPDX-License-Identifier: Apache-2.0
"""A real Kafka for tests and benchmarks: one broker or more on free ports of
127.0.0.1, which can be killed, paused and started again.

    with KafkaCluster(brokers=3) as kafka:
        kafka.create_topic("events")
        ... kafka.bootstrap ...
        kafka.kill(kafka.leader_of("events"))

Brokers are numbered from 0, as in Kafka's metadata. Each has listeners of these
names: CLIENT for programs, which asks for SASL and TLS if the cluster has them;
NODE0, NODE1, ... the same for nodes that come through a proxy (see proxy.py);
INTERNAL and CONTROLLER for brokers among themselves and for this module, where
everybody may do everything.

Nothing is left behind: a watchdog ends the brokers and removes the directory
when the program has gone, however it went. contrib/kafka/kafka brings Kafka."""

import glob
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zipfile

from gateway import HOST, Failure, expect, poll

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "contrib", "kafka", "kafka")
START_LIMIT_SEC = 90
CALL_LIMIT_SEC = 30
TOOL_LIMIT_SEC = 90
HEAP_MB = 320
QUICK_TO_START = "-XX:TieredStopAtLevel=1"  # a third less of the processor until a broker answers
TOOL_OPTIONS = ["-Xmx256m", QUICK_TO_START, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
BROKER_OPTIONS = ["-Xms64m", "-Dorg.slf4j.simpleLogger.showDateTime=true",
                  "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS"]
# Ports are taken from below the range that outgoing connections get theirs from:
# a broker that is down must find its port free when it comes back.
PORTS = range(12000, 32000)
ADMIN = "admin"
LOGIN_MODULES = {
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
}


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            return True
        except OSError:
            return False


def free_ports(count):
    """Ports that nobody listens at, all different."""
    ports = []
    while len(ports) < count:
        port = random.SystemRandom().choice(PORTS)
        if port not in ports and is_free(port):
            ports.append(port)
    return ports


# ---------------------------------------------------------------- Kafka's protocol

class KafkaError(Failure):
    """A broker's refusal, with Kafka's number for it."""

    def __init__(self, code, what):
        super().__init__("%s: Kafka's error %d" % (what, code))
        self.code = code


UNKNOWN_TOPIC = 3
TOPIC_EXISTS = 36
LATEST, EARLIEST = -1, -2
SET_ON_TOPIC = 1
RETRIABLE = (5, 6, 7, 9, 14, 15, 16, 41, 100)  # no leader, not the leader, not the controller, ...


class Request:
    """The fields of a request, one after the other, in the encoding of versions before the compact one."""

    def __init__(self):
        self.data = bytearray()

    def add(self, form, *values):
        self.data += struct.pack(">" + form, *values)
        return self

    def text(self, value):
        if value is None:
            return self.add("h", -1)
        value = value.encode()
        self.add("h", len(value)).data += value
        return self

    def array(self, values, each):
        self.add("i", len(values))
        for value in values:
            each(value)
        return self


class Answer:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return values[0] if len(values) == 1 else values

    def text(self):
        length = self.take("h")
        if length < 0:
            return None
        self.at += length
        return bytes(self.data[self.at - length:self.at]).decode()

    def array(self, each):
        return [each() for _ in range(self.take("i"))]


class Wire:
    """A connection to a broker's INTERNAL listener; the few calls that tests
    make often, for a tool of Kafka's takes a second each time."""

    def __init__(self, port, timeout=CALL_LIMIT_SEC):
        self.sock = socket.create_connection((HOST, port), timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def call(self, api, version, request):
        head = Request().add("hhi", api, version, 1).text("keta-tests").data + request.data
        self.sock.sendall(struct.pack(">i", len(head)) + head)
        length = struct.unpack(">i", self.receive(4))[0]
        return Answer(self.receive(length)[4:])

    def receive(self, length):
        data = b""
        while len(data) < length:
            more = self.sock.recv(length - len(data))
            if not more:
                raise ConnectionResetError("the broker closed the connection")
            data += more
        return data

    def metadata(self, topics=()):
        """({broker: (host, port)}, controller, {topic: (error, {partition: (error, leader, replicas, in sync)})}),
        of the named topics or with None of all."""
        request = Request()
        if topics is None:
            request.add("i", -1)
        else:
            request.array(topics, request.text)
        answer = self.call(3, 4, request.add("?", False))
        answer.take("i")
        brokers = {}

        def broker():
            number, host, port = answer.take("i"), answer.text(), answer.take("i")
            answer.text()
            brokers[number] = (host, port)

        def partition():
            error, number, leader = answer.take("hii")
            replicas = answer.array(lambda: answer.take("i"))
            return number, (error, leader, replicas, answer.array(lambda: answer.take("i")))

        def topic():
            error, name = answer.take("h"), answer.text()
            answer.take("?")
            return name, (error, dict(answer.array(partition)))

        answer.array(broker)
        answer.text()
        controller = answer.take("i")
        return brokers, controller, dict(answer.array(topic))

    def create_topic(self, name, partitions, replicas, settings):
        request = Request().add("i", 1).text(name).add("ih", partitions, replicas).add("i", 0)
        request.array(list(settings.items()), lambda item: request.text(item[0]).text(str(item[1])))
        answer = self.call(19, 4, request.add("i?", CALL_LIMIT_SEC * 1000, False))
        answer.take("i")
        return answer.array(lambda: (answer.text(), answer.take("h"), answer.text()))[0][1:]

    def delete_topic(self, name):
        answer = self.call(20, 3, Request().add("i", 1).text(name).add("i", CALL_LIMIT_SEC * 1000))
        answer.take("i")
        return answer.array(lambda: (answer.text(), answer.take("h")))[0][1]

    def alter_topic(self, name, settings):
        """None as a value removes a setting."""
        request = Request().add("ib", 1, 2).text(name)
        request.array(list(settings.items()), lambda item: request.text(item[0]).add("b", item[1] is None).text(
            None if item[1] is None else str(item[1])))
        answer = self.call(44, 0, request.add("?", False))
        answer.take("i")
        return answer.array(lambda: (answer.take("h"), answer.text(), answer.take("b"), answer.text()))[0][:2]

    def topic_config(self, name):
        """{setting: (value, whether the topic has its own)}"""
        answer = self.call(32, 1, Request().add("ib", 1, 2).text(name).add("i?", -1, False))
        answer.take("i")

        def setting():
            key, value = answer.text(), answer.text()
            source = answer.take("?b?")[1]
            answer.array(lambda: (answer.text(), answer.text(), answer.take("b")))
            return key, (value, source == SET_ON_TOPIC)

        def resource():
            error = answer.take("h")
            answer.text(), answer.take("b"), answer.text()
            return error, dict(answer.array(setting))
        return answer.array(resource)[0]

    def offset(self, topic, partition, timestamp):
        request = Request().add("ibi", -1, 0, 1).text(topic).add("iiiq", 1, partition, -1, timestamp)
        answer = self.call(2, 4, request)
        answer.take("i")
        return answer.array(lambda: (answer.text(), answer.array(lambda: answer.take("ihqqi"))))[0][1][0][1::2]


# ---------------------------------------------------------------- brokers

class Broker:
    def __init__(self, number, home, ports):
        self.number, self.home, self.ports = number, home, ports  # ports by the listener's name
        self.process = None
        self.is_paused = False

    @property
    def pid(self):
        return self.process.pid if self.is_running() else None

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def log_tail(self, lines=20):
        try:
            with open(os.path.join(self.home, "server.log"), errors="replace") as log:
                return "".join(log.readlines()[-lines:])
        except OSError:
            return ""


class KafkaCluster:
    """See the module. 'version' is Kafka's (contrib/kafka/kafka has a default),
    'users' are name: password beside the admin's, 'settings' go to each broker's
    configuration. With 'sasl' a program may do only what add_acls allows it, and
    'mechanism' is one of LOGIN_MODULES. (Kafka 4 refuses SCRAM as librdkafka spoke
    it before 2.6.1: with Debian 12's, that leaves PLAIN there.)
    'full_speed' is for benchmarks: brokers take more of the processor until they
    are warm and are faster from then on."""

    def __init__(self, brokers=1, version=None, sasl=False, tls=False, base_dir=None, proxied_nodes=0,
                 users=None, mechanism="SCRAM-SHA-256", settings=None, heap_mb=HEAP_MB, full_speed=False):
        self.count, self.version, self.sasl, self.tls = brokers, version, sasl, tls
        self.base_dir, self.proxied_nodes = base_dir, proxied_nodes
        self.users, self.mechanism = dict(users or {}), mechanism
        self.users.setdefault(ADMIN, "admin-secret")
        self.settings, self.heap_mb, self.full_speed = dict(settings or {}), heap_mb, full_speed
        self.directory = self.jars = self.watchdog = self.proxy = self.ca_file = None
        self.brokers = []

    # ------------------------------------------------------------ life

    def start(self):
        """Returns the seconds until all brokers knew each other."""
        expect(self.directory is None, "the cluster has been started")
        self.jars = self.script("fetch").strip()
        common = self.script("settings", str(self.count))
        begun = time.monotonic()
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="keta-kafka-", dir=self.base_dir))
        try:
            self.watchdog = subprocess.Popen([sys.executable, os.path.abspath(__file__), self.directory],
                                             stdin=subprocess.PIPE, start_new_session=True)
            self.lay_out()
            for broker in self.brokers:
                self.configure(broker, common)
            self.format()
            for broker in self.brokers:
                self.launch(broker)
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return time.monotonic() - begun

    def script(self, *arguments):
        environment = dict(os.environ)
        if self.version:
            environment["KAFKA_VERSION"] = self.version
        return subprocess.run([SCRIPT, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True,
                              stdin=subprocess.DEVNULL).stdout

    def lay_out(self):
        names = ["CLIENT", "INTERNAL", "CONTROLLER"] + ["NODE%d" % node for node in range(self.proxied_nodes)]
        ports = free_ports(self.count * len(names))
        for number in range(self.count):
            home = os.path.join(self.directory, "broker-%d" % number)
            os.mkdir(home)
            self.brokers.append(Broker(number, home, {name: ports.pop() for name in names}))
        if self.proxied_nodes:
            from proxy import Proxy
            self.proxy = Proxy({(node, broker.number): broker.ports["NODE%d" % node]
                                for node in range(self.proxied_nodes) for broker in self.brokers})
        if self.tls:
            self.make_certificates()

    def advertised(self, broker, name):
        if name.startswith("NODE"):
            return self.proxy.port(int(name[4:]), broker.number)
        return broker.ports[name]

    def protocol(self, name):
        if name in ("INTERNAL", "CONTROLLER"):
            return "PLAINTEXT"
        return ("SASL_" if self.sasl else "") + ("SSL" if self.tls else "PLAINTEXT")

    def configure(self, broker, common):
        names = list(broker.ports)
        public = [name for name in names if name != "CONTROLLER"]
        settings = {
            "node.id": broker.number,
            "log.dirs": os.path.join(broker.home, "data"),
            "listeners": ",".join("%s://%s:%d" % (name, HOST, broker.ports[name]) for name in names),
            "advertised.listeners": ",".join("%s://%s:%d" % (name, HOST, self.advertised(broker, name))
                                             for name in public),
            "listener.security.protocol.map": ",".join("%s:%s" % (name, self.protocol(name)) for name in names),
            "inter.broker.listener.name": "INTERNAL",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": ",".join("%d@%s:%d" % (each.number, HOST, each.ports["CONTROLLER"])
                                                 for each in self.brokers),
        }
        if self.sasl:
            settings.update({
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "allow.everyone.if.no.acl.found": "false",
                "super.users": "User:%s;User:ANONYMOUS" % ADMIN,  # who comes without a name is a broker
                "sasl.enabled.mechanisms": self.mechanism,
            })
            known = "".join(' user_%s="%s"' % user for user in self.users.items()) if self.mechanism == "PLAIN" else ""
            for name in public:
                settings["listener.name.%s.%s.sasl.jaas.config" % (name.lower(), self.mechanism.lower())] = \
                    LOGIN_MODULES[self.mechanism] + " required" + known + ";"
        if self.tls:
            settings.update({
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": os.path.join(self.directory, "tls", "server.keystore"),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": self.ca_file,
            })
        settings.update(self.settings)
        with open(os.path.join(broker.home, "server.properties"), "w") as out:
            out.write(common + "".join("%s=%s\n" % item for item in settings.items()))

    def java(self, options, *arguments):
        return ["java", "-XX:+UseSerialGC", *options, "-cp", os.path.join(self.jars, "*"), *arguments]

    def make_certificates(self):
        """A certificate authority, and one certificate for all brokers."""
        home = os.path.join(self.directory, "tls")
        os.mkdir(home)
        key, request, certificate = (os.path.join(home, "server." + end) for end in ("key", "csr", "crt"))
        authority_key, self.ca_file = os.path.join(home, "ca.key"), os.path.join(home, "ca.crt")
        names = os.path.join(home, "names")
        with open(names, "w") as out:
            out.write("subjectAltName=IP:%s,DNS:localhost\n" % HOST)
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        for arguments in (
                ["req", "-x509", *curve, "-keyout", authority_key, "-out", self.ca_file, "-days", "30", "-subj",
                 "/CN=authority of a test"],
                ["req", "-new", *curve, "-keyout", key, "-out", request, "-subj", "/CN=broker of a test"],
                ["x509", "-req", "-in", request, "-CA", self.ca_file, "-CAkey", authority_key, "-CAcreateserial",
                 "-out", certificate, "-days", "30", "-extfile", names]):
            done = subprocess.run(["openssl", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  stdin=subprocess.DEVNULL)
            expect(done.returncode == 0, "openssl %s failed:\n%s", arguments[0], done.stdout)
        with open(os.path.join(home, "server.keystore"), "w") as out:
            for part in (key, certificate):
                with open(part) as text:
                    out.write(text.read())

    def format(self):
        """Makes each broker's storage, with the users' credentials in it."""
        cluster = "".join(random.choice("abcdefghijkmnpqrstuvwxyz") for _ in range(21)) + "A"
        users = []
        for user in self.users.items() if self.sasl and self.mechanism != "PLAIN" else ():
            users += ["--add-scram", self.mechanism + "=[name=%s,password=%s]" % user]
        running = []
        for broker in self.brokers:
            command = self.java(TOOL_OPTIONS, "kafka.tools.StorageTool", "format", "-t", cluster, "-c",
                                os.path.join(broker.home, "server.properties"), *users)
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                            stdin=subprocess.DEVNULL, text=True))
        for process in running:
            output = process.communicate(timeout=TOOL_LIMIT_SEC)[0]
            expect(process.returncode == 0, "Kafka's storage could not be formatted:\n%s", output)

    def launch(self, broker):
        options = BROKER_OPTIONS + ["-Xmx%dm" % self.heap_mb] + ([] if self.full_speed else [QUICK_TO_START])
        command = self.java(options, "kafka.Kafka", os.path.join(broker.home, "server.properties"))
        with open(os.path.join(broker.home, "server.log"), "ab") as log:
            # A session of its own: Ctrl-C is for the test, which may still need the broker.
            broker.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                              start_new_session=True)
        self.watchdog.stdin.write(b"%d\n" % broker.process.pid)
        self.watchdog.stdin.flush()

    def wait_ready(self):
        poll(lambda: all(self.is_ready(broker) for broker in self.brokers), START_LIMIT_SEC, "answers from all brokers")

    def is_ready(self, broker):
        """Whether it and the others that run know each other."""
        running = {each.number for each in self.answering()}
        expect(broker.is_running(), "broker %d has ended:\n%s", broker.number, broker.log_tail())
        try:
            with Wire(broker.ports["INTERNAL"], timeout=5) as wire:
                brokers, controller, _ = wire.metadata()
                return controller >= 0 and running <= set(brokers)
        except OSError:
            return False

    def stop(self):
        """Ends everything at once and removes what was stored."""
        for broker in self.brokers:
            self.kill(broker.number)
        if self.proxy:
            self.proxy.close()
        if self.watchdog:
            self.watchdog.stdin.close()
            self.watchdog.wait()
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        self.brokers, self.proxy, self.watchdog, self.directory = [], None, None, None

    def __enter__(self):
        if self.directory is None:
            self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    # ------------------------------------------------------------ single brokers

    @property
    def pids(self):
        """Of the brokers; None in the place of one that is down."""
        return [broker.pid for broker in self.brokers]

    def kill(self, number):
        """SIGKILL. It may be paused."""
        broker = self.brokers[number]
        broker.is_paused = False
        if broker.is_running():
            broker.process.kill()
            broker.process.wait()

    def terminate(self, number, limit_sec=30):
        """An orderly stop, which hands over what the broker led."""
        broker = self.brokers[number]
        if broker.is_running():
            self.resume(number)
            broker.process.terminate()
            try:
                broker.process.wait(limit_sec)
            except subprocess.TimeoutExpired:
                self.kill(number)
                raise Failure("broker %d did not stop on SIGTERM" % number) from None

    def pause(self, number):
        self.brokers[number].process.send_signal(signal.SIGSTOP)
        self.brokers[number].is_paused = True

    def resume(self, number):
        self.brokers[number].process.send_signal(signal.SIGCONT)
        self.brokers[number].is_paused = False

    def restart(self, number, wait=True):
        """Starts it on what it stored, after ending it if it runs; returns the seconds until it answered."""
        begun = time.monotonic()
        self.terminate(number)
        broker = self.brokers[number]
        self.launch(broker)
        if wait:
            poll(lambda: self.is_ready(broker), START_LIMIT_SEC, "an answer from broker %d" % number)
        return time.monotonic() - begun

    def log_tail(self, number, lines=40):
        return self.brokers[number].log_tail(lines)

    def answering(self):
        return [broker for broker in self.brokers if broker.is_running() and not broker.is_paused]

    # ------------------------------------------------------------ addresses

    @property
    def bootstrap(self):
        return self.addresses("CLIENT")

    @property
    def internal(self):
        """Where everybody may do everything."""
        return self.addresses("INTERNAL")

    def bootstrap_for(self, node):
        """Addresses of the proxy's for this node, counted from 0."""
        return self.addresses("NODE%d" % node)

    def addresses(self, name):
        return ",".join("%s:%d" % (HOST, self.advertised(broker, name)) for broker in self.brokers)

    def client_options(self, user=ADMIN, password=None, node=None):
        """librdkafka's properties for a program, or for a node that comes through the proxy."""
        options = {"bootstrap.servers": self.bootstrap if node is None else self.bootstrap_for(node)}
        if self.sasl or self.tls:
            options["security.protocol"] = self.protocol("CLIENT")
        if self.tls:
            options["ssl.ca.location"] = self.ca_file
        if self.sasl:
            options.update({"sasl.mechanisms": self.mechanism, "sasl.username": user,
                            "sasl.password": self.users[user] if password is None else password})
        return options

    # ------------------------------------------------------------ topics and rights

    def ask(self, question, what, number=None, repeated=None, limit_sec=CALL_LIMIT_SEC):
        """Calls 'question' with a connection to a broker, that one or any, until the refusal is not one that passes
        by itself. 'number' may be a function, for one that changes. 'repeated' is the refusal of what was done by an
        earlier call, of whose answer nothing was heard."""
        deadline = time.monotonic() + limit_sec
        calls = 0
        while True:
            code = "no broker answers"
            chosen = number() if callable(number) else number
            for broker in self.answering() if chosen is None else [self.brokers[chosen]]:
                try:
                    with Wire(broker.ports["INTERNAL"], timeout=5) as wire:
                        calls += 1
                        code, answer = question(wire)
                except OSError:
                    continue
                if code == 0 or (code == repeated and calls > 1):
                    return answer
                if code not in RETRIABLE:
                    raise KafkaError(code, what)
            if time.monotonic() > deadline:
                raise Failure("%s: not within %g seconds (%s)" % (what, limit_sec, code))
            time.sleep(0.05)

    def create_topic(self, name, partitions=1, replicas=None, settings=None):
        """Returns when all brokers that run know its leaders."""
        replicas = min(3, self.count) if replicas is None else replicas
        self.ask(lambda wire: wire.create_topic(name, partitions, replicas, settings or {}), "create topic " + name,
                 repeated=TOPIC_EXISTS)
        poll(lambda: all(self.is_known(name, broker.number, partitions) for broker in self.answering()),
             CALL_LIMIT_SEC, "leaders of " + name)

    def delete_topic(self, name):
        """Returns when no broker that runs knows it any more."""
        self.ask(lambda wire: (wire.delete_topic(name), None), "delete topic " + name, repeated=UNKNOWN_TOPIC)
        poll(lambda: not any(self.partitions(name, broker.number) for broker in self.answering()), CALL_LIMIT_SEC,
             "the end of topic " + name)

    def alter_topic(self, name, settings):
        """None as a value takes a setting back to what the brokers have."""
        self.ask(lambda wire: wire.alter_topic(name, settings), "alter topic " + name)

        def is_altered(broker):
            found = self.topic_settings(name, broker.number)
            return all(not found[key][1] if value is None else found[key] == (str(value), True)
                       for key, value in settings.items())
        poll(lambda: all(is_altered(broker) for broker in self.answering()), CALL_LIMIT_SEC, "new settings of " + name)

    def topic_settings(self, name, number=None):
        return self.ask(lambda wire: wire.topic_config(name), "settings of topic " + name, number)

    def topic_config(self, name):
        """All settings of a topic, as texts."""
        return {key: value for key, (value, _) in self.topic_settings(name).items()}

    def topics(self):
        return self.ask(lambda wire: (0, sorted(wire.metadata(None)[2])), "topics")

    def partitions(self, name, number=None):
        """{partition: (error, leader, replicas, replicas in sync)}, or {} when there is no such topic."""
        def question(wire):
            error, partitions = wire.metadata([name])[2][name]
            return (0, {}) if error == UNKNOWN_TOPIC else (error, partitions)
        return self.ask(question, "partitions of " + name, number)

    def is_known(self, name, number, partitions):
        """Whether the broker knows a leader for each partition."""
        found = self.partitions(name, number)
        return len(found) == partitions and all(leader >= 0 for _, leader, _, _ in found.values())

    def leader_of(self, topic, partition=0):
        """The broker's number, or None at a moment when nobody leads."""
        leader = self.partitions(topic)[partition][1]
        return leader if leader >= 0 else None

    def in_sync(self, topic, partition=0):
        return sorted(self.partitions(topic)[partition][3])

    def end_offset(self, topic, partition=0, timestamp=LATEST):
        """One more than the last record's; with EARLIEST the first one's."""
        def leader():
            return poll(lambda: [each for each in [self.leader_of(topic, partition)] if each is not None],
                        CALL_LIMIT_SEC, "a leader of " + topic)[0]
        return self.ask(lambda wire: wire.offset(topic, partition, timestamp), "end of " + topic, leader)

    def tool(self, name, *arguments, check=True, user=None, password=None):
        """What a tool of Kafka's prints: tool("org.apache.kafka.tools.TopicCommand", "--list"). It may do everything,
        or with 'user' what that one may."""
        address = ["--bootstrap-server", self.internal]
        if user:
            address = ["--bootstrap-server", self.bootstrap, "--command-config", self.java_properties(user, password)]
        command = self.java(TOOL_OPTIONS, name, *address, *arguments)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                              text=True, timeout=TOOL_LIMIT_SEC)
        expect(not check or done.returncode == 0, "%s failed:\n%s", name, done.stdout)
        return done.stdout

    def java_properties(self, user, password=None):
        """A file like client_options, for Kafka's own client."""
        path = os.path.join(self.directory, "client.properties")
        with open(path, "w") as out:
            out.write("security.protocol=%s\n" % self.protocol("CLIENT"))
            if self.tls:
                out.write("ssl.truststore.type=PEM\nssl.truststore.location=%s\n" % self.ca_file)
            if self.sasl:
                out.write("sasl.mechanism=%s\nsasl.jaas.config=%s required username=\"%s\" password=\"%s\";\n" % (
                    self.mechanism, LOGIN_MODULES[self.mechanism], user, password or self.users[user]))
        return path

    def add_acls(self, arguments):
        """The arguments of kafka-acls after --add: ["--allow-principal", "User:keta", "--topic", ...]."""
        with zipfile.ZipFile(glob.glob(os.path.join(self.jars, "kafka-tools-[0-9]*.jar"))[0]) as tools:
            has_it = "org/apache/kafka/tools/AclCommand.class" in tools.namelist()  # since Kafka 4.1
        name = "org.apache.kafka.tools.AclCommand" if has_it else "kafka.admin.AclCommand"
        return self.tool(name, "--add", "--force", *arguments)


# ---------------------------------------------------------------- the watchdog

def is_of(directory, pid):
    """Whether the process is the broker still, and not another that got its number since."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as command:
            return os.fsencode(directory) in command.read()
    except OSError:
        return False


def watch(directory):
    """Waits until the program that tells us the brokers' pids has gone; ends and removes what it left."""
    pids = [int(line) for line in sys.stdin]
    for pid in pids:
        if is_of(directory, pid):
            os.kill(pid, signal.SIGKILL)
    poll(lambda: not any(is_of(directory, pid) for pid in pids), CALL_LIMIT_SEC, "the end of all brokers")
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    watch(sys.argv[1])
