# SPDX-License-Identifier: Apache-2.0
"""A WebSocket client (RFC 6455) for tests, strict about what the server sends.

The protocol is in plain functions and in Frames, which know no socket, so that
a test with an event loop of its own can use them; WebSocket is the same over a
blocking socket."""

import base64
import hashlib
import os
import socket
import time

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NO_STATUS = 1005  # a close frame without a code, as the standard numbers it
ABNORMAL = 1006   # no close frame at all


class ProtocolError(Exception):
    """The server sent what the standard forbids."""


class NotSwitched(Exception):
    """The server answered the handshake with something else than 101."""

    def __init__(self, status, headers, body):
        super().__init__("the handshake was answered %d %r" % (status, body[:200]))
        self.status, self.headers, self.body = status, headers, body


def handshake(host, path, headers=None):
    """The request's bytes, and the Sec-WebSocket-Accept it must be answered with."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ["GET %s HTTP/1.1" % path, "Host: " + host, "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + key]
    lines += ["%s: %s" % header for header in (headers or {}).items()]
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), accept


def parse_head(head):
    """The status and the headers, in lower case, of an answer's head."""
    lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(lines[0].split()[1]), headers


def check_switch(headers, accept):
    if headers.get("sec-websocket-accept") != accept:
        raise ProtocolError("wrong Sec-WebSocket-Accept: %r" % headers)
    if headers.get("upgrade", "").lower() != "websocket":
        raise ProtocolError("wrong Upgrade: %r" % headers)


def frame(opcode, payload, final=True):
    """A frame as a client sends it: masked."""
    size = len(payload)
    head = bytes([(0x80 if final else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    repeated = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + masked.to_bytes(size, "big")


class Frames:
    """What the server sends, taken apart: feed bytes, take messages."""

    def __init__(self):
        self.data = bytearray()
        self.parts = []     # of a message in several frames
        self.opcode = None  # of that message

    def feed(self, data):
        self.data += data

    def next(self):
        """(opcode, payload) of the next whole message or control frame, or None."""
        while True:
            taken = self.next_frame()
            if taken is None:
                return None
            final, opcode, payload = taken
            if opcode >= 8:
                return opcode, payload
            if (opcode == 0) == (self.opcode is None):
                raise ProtocolError("a message begins inside another, or goes on without a beginning")
            self.opcode = opcode or self.opcode
            self.parts.append(payload)
            if final:
                message = self.opcode, b"".join(self.parts)
                self.opcode, self.parts = None, []
                return message

    def next_frame(self):
        data = self.data
        if len(data) < 2:
            return None
        first, size, start = data[0], data[1], 2
        if first & 0x70 or (first & 0x0F) not in (0, TEXT, BINARY, CLOSE, PING, PONG):
            raise ProtocolError("reserved bits or opcode: %#x" % first)
        if size & 0x80:
            raise ProtocolError("a masked frame from the server")
        if first & 0x08 and (size > 125 or not first & 0x80):
            raise ProtocolError("a control frame that is long or in parts")
        if size >= 126:
            start, least = (4, 126) if size == 126 else (10, 1 << 16)
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
            if size < least:
                raise ProtocolError("a length that is not in its shortest form")
        if len(data) < start + size:
            return None
        payload = bytes(data[start:start + size])
        del data[:start + size]
        return bool(first & 0x80), first & 0x0F, payload


class WebSocket:
    """A connection that has switched. Pings are answered while one receives."""

    def __init__(self, port, path, headers=None, host="127.0.0.1", timeout=20, receive_buffer=None):
        self.frames = Frames()
        self.close_code = None  # set when the server has ended it
        self.pings = 0
        self.sock = socket.socket()
        try:
            if receive_buffer:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.sock.settimeout(timeout)
            self.sock.connect((host, port))
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request, accept = handshake("%s:%d" % (host, port), path, headers)
            self.sock.sendall(request)
            self.read_head(accept)
        except BaseException:
            self.sock.close()
            raise

    def read_head(self, accept):
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.sock.recv(65536)
            if not part:
                raise ConnectionResetError("closed during the handshake")
            data += part
        head, rest = data.split(b"\r\n\r\n", 1)
        status, self.headers = parse_head(head)
        if status != 101:
            size = int(self.headers.get("content-length", len(rest)))
            while len(rest) < size:
                part = self.sock.recv(65536)
                if not part:
                    break
                rest += part
            raise NotSwitched(status, self.headers, rest)
        check_switch(self.headers, accept)
        self.frames.feed(rest)

    def send(self, text):
        self.sock.sendall(frame(TEXT, text.encode()))

    def receive(self, timeout):
        """The next message as text; None once the server has closed.
        TimeoutError after so many seconds."""
        deadline = time.monotonic() + timeout
        while self.close_code is None:
            message = self.frames.next()
            if message is None:
                self.read_more(deadline)
            elif message[0] == PING:
                self.pings += 1
                self.sock.sendall(frame(PONG, message[1]))
            elif message[0] == CLOSE:
                payload = message[1]
                self.close_code = int.from_bytes(payload[:2], "big") if payload else NO_STATUS
            elif message[0] != PONG:
                return message[1].decode()  # text must be UTF-8
        return None

    def read_more(self, deadline):
        self.sock.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self.sock.recv(262144)
        except ConnectionResetError:
            data = b""
        if data:
            self.frames.feed(data)
        else:
            self.close_code = ABNORMAL

    def close(self, polite=True):
        """Politely: with a close frame, for whose answer nobody waits."""
        try:
            if polite and self.close_code is None:
                self.sock.settimeout(1)
                self.sock.sendall(frame(CLOSE, (1000).to_bytes(2, "big")))
        except OSError:
            pass
        self.sock.close()
