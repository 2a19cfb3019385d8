"""A TCP proxy that can stall, swallow and reset, between a daemon and its servers."""

import contextlib
import select
import socket
import struct
import threading
from types import TracebackType
from typing import Literal, Self

Mode = Literal["pass", "stall", "swallow", "refuse"]


class Proxy:
    """Forwards a port of 127.0.0.1 to another.

    ``pass`` forwards; ``stall`` reads nothing, so that senders block; ``swallow`` reads and throws away;
    in both of these new connections are taken and left without an answer. ``refuse`` closes new ones.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._mode: Mode = "pass"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def set(self, mode: Mode) -> None:
        """Change what happens from now on, to old and new connections alike."""
        self._mode = mode
        self._wake.send(b"x")

    def reset(self) -> None:
        """Tear all connections with RST."""
        with self._lock:
            for pair in self._pairs:
                for sock in pair:
                    with contextlib.suppress(OSError):
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.close()
            self._pairs.clear()
        self._wake.send(b"x")

    def __enter__(self) -> Self:
        """Begin to forward."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        self._closed = True
        self._wake.send(b"x")
        self._thread.join()
        self.reset()
        for sock in (self._server, self._wake, self._woken):
            sock.close()

    def _run(self) -> None:
        while not self._closed:
            with self._lock:
                others = {end: other for a, b in self._pairs for end, other in ((a, b), (b, a))}
            # a stalled proxy must still notice that a client disconnected
            watched = list(others) if self._mode != "stall" else []
            poller = select.poll()
            for sock in (self._server, self._woken, *watched):
                poller.register(sock, select.POLLIN)
            if self._mode == "stall":
                for sock in others:
                    poller.register(sock, select.POLLRDHUP)
            descriptors = {
                sock.fileno(): sock for sock in (self._server, self._woken, *others) if sock.fileno() >= 0
            }
            for descriptor, happened in poller.poll():
                sock = descriptors.get(descriptor)
                if sock is self._woken:
                    self._woken.recv(4096)
                elif sock is self._server:
                    self._accept()
                elif sock is not None and (self._mode != "stall" or happened & ~select.POLLIN):
                    self._forward(sock, others[sock])

    def _accept(self) -> None:
        client, _ = self._server.accept()
        if self._mode == "refuse":
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            client.close()
            return
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pairs.append((client, server))

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            data = source.recv(65536) if self._mode != "stall" else b""
            if data and self._mode == "pass":
                sink.sendall(data)
        except OSError:
            data = b""
        if not data:
            with self._lock:
                self._pairs = [pair for pair in self._pairs if source not in pair]
            source.close()
            sink.close()
