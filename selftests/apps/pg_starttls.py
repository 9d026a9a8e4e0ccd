# SPDX-License-Identifier: GPL-2.0-or-later
#
# Carries PostgreSQL's request for TLS past something that speaks TLS from the first byte on. Until version 17
# the client sends an SSLRequest in the clear, is answered "S", and only then begins its handshake. "client"
# stands before a listener with TLS: it takes the request and answers it. "server" stands before a PostgreSQL
# server: it sends the request and takes the answer. Everything else is relayed as it is: the handshakes are
# libpq's and PostgreSQL's own.
#
# usage: pg_starttls.py client|server PORT TO-PORT
import socket
import struct
import sys
import threading

REQUEST = struct.pack("!II", 8, 80877103)


def read_all(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise OSError("closed early")
        data += more
    return data


def relay(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serve(s, mode, port):
    with s, socket.create_connection(("127.0.0.1", port)) as to:
        for x in (s, to):
            x.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if mode == "client":
            if read_all(s, len(REQUEST)) != REQUEST:
                return
            s.sendall(b"S")
        else:
            to.sendall(REQUEST)
            if read_all(to, 1) != b"S":
                return
        back = threading.Thread(target=relay, args=(to, s))
        back.start()
        relay(s, to)
        back.join()


mode, port, to_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
listener = socket.create_server(("127.0.0.1", port), backlog=128)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0], mode, to_port), daemon=True).start()
