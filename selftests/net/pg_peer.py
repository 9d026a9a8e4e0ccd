# SPDX-License-Identifier: GPL-2.0-or-later
#
# Both ends of what PostgreSQL's protocol says before TLS, with every mistake that a peer may make. Words of the
# steps: SSL, GSS, CANCEL are the requests; HELLO is a ClientHello; else it is hexadecimal.
#
#	pg_peer.py client PORT STEP…
#		send=WORD,…	all of it in one piece
#		bytes=WORD,…	one byte at a time, each on its way before the next one
#		get=TEXT	exactly this comes next
#		tls		a handshake, the server is verified
#		echo=TEXT	is sent, and comes back
#		end		the peer closes, in whatever way, after anything
#		tell=FILE	makes it
#		wait=FIFO	until there is a byte for it
#	pg_peer.py server PORT ANSWER [FIFO]
#		answers requests so ("-": closes instead; after a byte from FIFO), and echoes; with or
#		without TLS. Standard output: what each connection began with, one line
#
# Certificates are in $CERTS: ca.pem; server.pem, server.key.
import os
import socket
import ssl
import struct
import sys
import threading

CERTS = os.environ["CERTS"]
REQUEST = {"SSL": 80877103, "GSS": 80877104, "CANCEL": 80877102}


def hello():
    out = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="x.example")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def word(text):
    if text == "CANCEL":
        return struct.pack("!IIII", 16, REQUEST[text], 4711, 815)
    if text in REQUEST:
        return struct.pack("!II", 8, REQUEST[text])
    return hello() if text == "HELLO" else bytes.fromhex(text)


def words(text):
    return b"".join(word(w) for w in text.split(","))


def exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise EOFError(f"the end came after {data!r}")
        data += more
    return data


def expect(s, want):
    got = exactly(s, len(want))
    if got != want:
        raise ValueError(f"expected {want!r}, got {got!r}")


def wait(fifo):
    with open(fifo, "rb", 0) as f:
        f.read(1)


def end(s):
    try:
        while s.recv(1000):
            pass
    except ConnectionError:
        pass


def step(s, verb, text):
    if verb == "send":
        s.sendall(words(text))
    elif verb == "bytes":
        for byte in words(text):
            s.sendall(bytes([byte]))
            # the peer's kernel has it: what follows is a segment of its own, which may be read alone
            while struct.unpack_from("I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]:
                pass
    elif verb == "get":
        expect(s, text.encode())
    elif verb == "tls":
        context = ssl.create_default_context(cafile=f"{CERTS}/ca.pem")
        s = context.wrap_socket(s, server_hostname="localhost")
    elif verb == "echo":
        s.sendall(text.encode())
        expect(s, text.encode())
    elif verb == "end":
        end(s)
    elif verb == "tell":
        open(text, "w").close()
    elif verb == "wait":
        wait(text)
    else:
        raise SystemExit(f"no such step: {verb}")
    return s


def client(port, steps):
    s = socket.create_connection(("127.0.0.1", port))
    s.settimeout(float(os.environ.get("TIMEOUT", "20")))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for one in steps:
        verb, _, text = one.partition("=")
        try:
            s = step(s, verb, text)
        except (OSError, EOFError, ValueError) as error:
            raise SystemExit(f"{one}: {error}")
    s.close()


def echo(s):
    while data := s.recv(65536):
        s.sendall(data)


def serve(s, answer, fifo):
    first = s.recv(1, socket.MSG_PEEK)
    kind = "TLS" if first == b"\x16" else "nothing" if not first else "text"
    head = exactly(s, 8) if first == b"\0" else b""
    for name, code in REQUEST.items():
        if head and struct.unpack("!II", head)[1] == code:
            kind = name
    print(kind, flush=True)
    if kind == "CANCEL":
        exactly(s, 8)
        s.shutdown(socket.SHUT_WR)
        rest = len(s.recv(1000))
        print(f"and {rest} bytes more", flush=True)
        return
    if kind == "SSL":
        if fifo:
            wait(fifo)
        if answer == "-":
            return
        s.sendall(answer.encode())
    if (kind == "SSL" and answer == "S") or kind == "TLS":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(f"{CERTS}/server.pem", f"{CERTS}/server.key")
        s = context.wrap_socket(s, server_side=True)
    echo(s)


def server(port, answer, fifo=None):
    def one(s):
        with s:
            try:
                serve(s, answer, fifo)
            except (OSError, EOFError):
                pass

    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    while True:
        threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()


if sys.argv[1] == "client":
    client(int(sys.argv[2]), sys.argv[3:])
else:
    server(int(sys.argv[2]), *sys.argv[3:])
