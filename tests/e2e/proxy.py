# SPDX-License-Identifier: Apache-2.0
"""Links between nodes and brokers that a test can cut, stall and delay.

A link is a port of 127.0.0.1 that leads to another; Proxy holds many, under
names of the test's choice, usually (node, broker):

    with Proxy({(0, 0): port, (0, 1): port}) as proxy:
        proxy.port(0, 1)            where node 0 finds broker 1
        proxy.cut(node=0)           connections break, new ones are refused
        proxy.stall(broker=1)       connections stay and are taken, and nothing goes through
        proxy.stall(what="answers") requests arrive, answers do not
        proxy.delay(50, node=0)     ms, added in each direction
        proxy.heal()                all is as in the beginning

What a side sent before it went away still arrives at the end of a stall or delay,
as it can in a network. A call returns when it is in force. The links live in a
process of their own, whatever the test is busy with; it ends with the test."""

import asyncio
import collections
import json
import os
import random
import socket
import struct
import subprocess
import sys

HOST = "127.0.0.1"
# Below the range that outgoing connections get their ports from.
PORTS = range(12000, 32000)
BACKLOG = 128
HELD_BYTES = 1 << 20  # that a direction holds before it stops reading
REQUESTS, ANSWERS = "requests", "answers"


# ---------------------------------------------------------------- in the proxy's process

def reset_at_close(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Side(asyncio.Protocol):
    """One end of a connection. What it reads goes to its peer, in order, when it is due and the link lets it pass."""

    def __init__(self, link, kind):
        self.link, self.kind = link, kind  # what it reads: REQUESTS or ANSWERS
        self.peer = self.transport = self.timer = None
        self.held = collections.deque()  # (when it is due, bytes); no bytes for the end
        self.held_bytes = 0
        self.is_blocked = False  # the peer's socket takes no more
        self.has_ended = False  # all that it read, and the end, has gone to the peer
        self.is_lost = False  # its connection is no more

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.sides.add(self)

    def data_received(self, data):
        self.hold(data)

    def eof_received(self):
        self.hold(b"")
        return True  # the other direction goes on

    def hold(self, data):
        self.held.append((self.link.loop.time() + self.link.delay_sec, data))
        self.held_bytes += len(data)
        self.flush()

    def may_pass(self):
        return self.held and self.kind not in self.link.stalled and not self.is_blocked

    def flush(self):
        if self.timer:
            self.timer.cancel()
            self.timer = None
        if self.peer.transport is None:
            return
        now = self.link.loop.time()
        while self.may_pass() and self.held[0][0] <= now:
            data = self.held.popleft()[1]
            self.held_bytes -= len(data)
            self.link.passed[self.kind] += len(data)
            if data:
                self.peer.transport.write(data)
            else:
                self.end()
        if self.may_pass():
            self.timer = self.link.loop.call_at(self.held[0][0], self.flush)
        if not self.transport.is_closing():
            if self.held_bytes > HELD_BYTES:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def end(self):
        """The peer is told that nothing follows. Nothing can come back when we are gone or it has ended as well."""
        self.has_ended = True
        if self.is_lost or self.peer.has_ended:
            self.peer.transport.close()
            self.transport.close()
            self.link.sides.discard(self)
        elif not self.peer.transport.is_closing():
            self.peer.transport.write_eof()

    def pause_writing(self):
        self.peer.is_blocked = True

    def resume_writing(self):
        self.peer.is_blocked = False
        self.peer.flush()

    def connection_lost(self, error):
        self.is_lost = True
        if self.held and not self.peer.is_lost:
            self.hold(b"")
            return
        self.forget()
        if self.peer.transport and not self.has_ended:
            self.peer.break_off()

    def forget(self):
        self.link.sides.discard(self)
        self.held.clear()
        if self.timer:
            self.timer.cancel()

    def break_off(self):
        """The other end sees a reset."""
        self.forget()
        if not self.transport.is_closing():
            reset_at_close(self.transport.get_extra_info("socket"))
        self.transport.abort()


class Link:
    def __init__(self, loop, target):
        self.loop, self.target = loop, target
        self.sides = set()
        self.stalled = frozenset()
        self.delay_sec = 0
        self.passed = {REQUESTS: 0, ANSWERS: 0}  # bytes
        self.connections = 0
        self.is_cut = True
        self.tasks = set()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.setblocking(False)
        while True:
            try:
                self.listener.bind((HOST, random.SystemRandom().choice(PORTS)))
                break
            except OSError:
                continue
        self.set(False, (), 0)

    def set(self, cut, stalled, delay_ms):
        self.stalled, self.delay_sec = frozenset(stalled), delay_ms / 1000
        if cut and not self.is_cut:
            # A listener that is shut down refuses and keeps its port, for later.
            self.loop.remove_reader(self.listener)
            self.listener.shutdown(socket.SHUT_RD)
            for task in self.tasks:
                task.cancel()
            for side in list(self.sides):
                side.break_off()
        elif not cut and self.is_cut:
            self.listener.listen(BACKLOG)
            self.loop.add_reader(self.listener, self.accept)
        self.is_cut = cut
        for side in list(self.sides):
            side.flush()

    def accept(self):
        while True:
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            task = self.loop.create_task(self.join(sock))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def join(self, sock):
        """Connects a client with the target. What neither takes is lost to both."""
        self.connections += 1
        near, far = Side(self, REQUESTS), Side(self, ANSWERS)
        near.peer, far.peer = far, near
        try:
            await self.loop.create_connection(lambda: far, HOST, self.target)
            await self.loop.connect_accepted_socket(lambda: near, sock)
        except (OSError, asyncio.CancelledError):
            reset_at_close(sock)
            sock.close()
            return
        if far.is_lost:
            near.break_off()
        else:
            far.flush()


async def serve(targets):
    """Answers the lines of standard input; the end of it ends the process, and so every link."""
    loop = asyncio.get_running_loop()
    links = [Link(loop, target) for target in targets]
    answer([link.listener.getsockname()[1] for link in links])
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = json.loads(line)
        for number, state in command.items():
            links[int(number)].set(*state)
        answer([dict(link.passed, connections=link.connections, open=len(link.sides) // 2) for link in links])


def answer(value):
    print(json.dumps(value), flush=True)


# ---------------------------------------------------------------- in the test's process

class Proxy:
    def __init__(self, targets):
        """'targets' are the ports that links lead to, by (node, broker)."""
        self.names = list(targets)
        self.states = {name: [False, [], 0] for name in self.names}  # cut, stalled, delay
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), *map(str, targets.values())],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        start_new_session=True)
        self.ports = dict(zip(self.names, self.read()))

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy has ended")
        return json.loads(line)

    def port(self, node, broker):
        return self.ports[node, broker]

    def chosen(self, node, broker):
        return [name for name in self.names if node in (None, name[0]) and broker in (None, name[1])]

    def send(self, names):
        command = {str(self.names.index(name)): self.states[name] for name in names}
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.read()

    def cut(self, node=None, broker=None):
        """Of the links that are meant (None is all): connections break, and new ones are refused."""
        for name in self.chosen(node, broker):
            self.states[name][0] = True
        self.send(self.chosen(node, broker))

    def stall(self, node=None, broker=None, what=None):
        """'what' is "requests" or "answers" to hold back one direction only, whatever was stalled before."""
        for name in self.chosen(node, broker):
            self.states[name][1] = [what] if what else [REQUESTS, ANSWERS]
        self.send(self.chosen(node, broker))

    def delay(self, milliseconds, node=None, broker=None):
        for name in self.chosen(node, broker):
            self.states[name][2] = milliseconds
        self.send(self.chosen(node, broker))

    def heal(self, node=None, broker=None):
        """What was stalled goes through now; what was cut off can connect."""
        for name in self.chosen(node, broker):
            self.states[name] = [False, [], 0]
        self.send(self.chosen(node, broker))

    def counts(self):
        """{(node, broker): {"requests": bytes, "answers": bytes, "connections": number, "open": number}}"""
        return dict(zip(self.names, self.send([])))

    def close(self):
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


if __name__ == "__main__":
    asyncio.run(serve([int(port) for port in sys.argv[1:]]))
