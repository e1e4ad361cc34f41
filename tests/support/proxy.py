"""A TCP line that can be reset, ended, silenced, or cut after so many bytes."""

import socket
import struct
import threading
from contextlib import suppress
from typing import Literal

Kind = Literal["rst", "fin", "hole"]
# SO_LINGER of 0 s: closing sends RST.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """A line to `port`; `cut` ends every connection, `limit` the next one after so many bytes."""

    def __init__(self, port: int) -> None:
        self.port, self.at, self.cuts = port, 0, 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._limit: tuple[int, bool, Kind] | None = None
        self._silent: set[socket.socket] = set()
        self._is_open = True
        self._lock = threading.Lock()

    def __enter__(self) -> "Proxy":
        self._server = socket.create_server(("127.0.0.1", 0))
        self.at = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        self._server.close()
        self.cut("rst")

    def cut(self, kind: Kind) -> int:
        """End what is connected now: RST, FIN, or bytes that go nowhere; how many lines."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._cut(pair, kind)
        return len(pairs)

    def limit(self, count: int, towards: bool, kind: Kind = "rst") -> None:
        """Cut the first line that carries `count` more bytes `towards` the server, or from it."""
        self._limit = (count, towards, kind)

    def _cut(self, pair: tuple[socket.socket, socket.socket], kind: Kind) -> None:
        self.cuts += 1
        if kind == "hole":
            self._silent.add(pair[0])
            return
        for end in pair:
            with suppress(OSError):
                if kind == "rst":
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                # SHUT_RD wakes who reads here and sends nothing: a FIN would come before the RST.
                end.shutdown(socket.SHUT_RD if kind == "rst" else socket.SHUT_RDWR)
            with suppress(OSError):
                end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while self._is_open:
                near, _ = self._server.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.port))
                except OSError:
                    near.close()
                    continue
                pair = (near, far)
                with self._lock:
                    self._pairs.append(pair)
                for towards in (True, False):
                    argv = (pair, towards)
                    threading.Thread(target=self._carry, args=argv, daemon=True).start()

    def _carry(self, pair: tuple[socket.socket, socket.socket], towards: bool) -> None:
        source, target = pair if towards else pair[::-1]
        carried = 0
        with suppress(OSError):
            while data := source.recv(65_536):
                if pair[0] in self._silent:
                    continue
                carried += len(data)
                limit = self._limit
                if limit and limit[1] == towards and carried > limit[0]:
                    self._limit = None
                    target.sendall(data[: max(0, len(data) - (carried - limit[0]))])
                    self._cut(pair, limit[2])
                    if limit[2] != "hole":
                        return
                    continue
                target.sendall(data)
        if pair[0] not in self._silent:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_WR if end is target else socket.SHUT_RD)
