"""Networks of companies on this machine: TLS servers with certificates of any kind, and proxies that read or refuse."""

import asyncio
import base64
import contextlib
import datetime as dt
import json
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

COMPLETION = json.dumps(
    {
        "id": "c1",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(status: str = "200 OK", body: str = COMPLETION, kind: str = "application/json", *headers: str) -> bytes:
    """Return a reply as bytes; the connection ends with it."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body.encode())}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", body]).encode()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Return the request line, the headers by their names in lower case, and the body."""
    line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
    return line, headers, await reader.readexactly(int(headers.get("content-length", 0)))


@asynccontextmanager
async def listening(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncGenerator[int]:
    """Serve connections at the port that is yielded, until those that are open are closed."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
            await writer.drain()
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class TlsServer:
    """What a TLS server answers, in threads: asyncio's sends no alert when a handshake fails, and others do.

    Attributes:
        handshakes: those that were begun.
        port: where it listens.
    """

    def __init__(self, context: ssl.SSLContext, reply: bytes | None = None) -> None:
        self.handshakes = 0
        self._context = context
        self._reply = reply or answer()
        context.sni_callback = self._hello
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """End it; connections that are open end when their clients close them."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _hello(self, *_: object) -> None:
        self.handshakes += 1

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            tls = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with contextlib.suppress(OSError), tls:
                try:
                    tls.do_handshake()
                except ssl.SSLError:
                    # What the client sent meanwhile is read: else the system would take the alert back from it.
                    raw = socket.socket(fileno=tls.detach())
                    with raw:
                        raw.shutdown(socket.SHUT_WR)
                        while raw.recv(65536):
                            pass
                    continue
                data = b""
                while b"\r\n\r\n" not in data and (piece := tls.recv(65536)):
                    data += piece
                tls.sendall(self._reply)
                tls.unwrap()


def server_context(certificate: trustme.LeafCert, *, chain: bool = True) -> ssl.SSLContext:
    """Return what a server needs to show `certificate`; without `chain` it leaves the intermediate ones out."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if chain:
        certificate.configure_cert(context)
    else:
        with certificate.private_key_and_cert_chain_pem.tempfile() as path:
            # Of a chain the server takes the first as its own; what follows is sent, so only that one is written.
            text = Path(path).read_text()
        end = "-----END CERTIFICATE-----\n"
        with trustme.Blob((text.partition(end)[0] + end).encode()).tempfile() as path:
            context.load_cert_chain(path)
    return context


def odd_certificate(
    folder: Path, *, name: str = "localhost", bits: int = 2048, signed_by_itself: bool = False
) -> tuple[ssl.SSLContext, Path]:
    """Return a server's context for a certificate that `trustme` does not make, and the file of who signed it."""
    now = dt.datetime.now(dt.UTC)
    key = rsa.generate_private_key(65537, bits)
    authority_key = key if signed_by_itself else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = subject if signed_by_itself else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Company")])

    def builder(of: x509.Name, public: object) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(of).issuer_name(issuer)
        made = made.public_key(public)  # type: ignore[arg-type]
        made = made.serial_number(x509.random_serial_number())
        return made.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))

    leaf = builder(subject, key.public_key()).add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
    signed = leaf.sign(authority_key, hashes.SHA256())
    own = builder(issuer, authority_key.public_key()).add_extension(x509.BasicConstraints(True, None), True)
    authority = signed if signed_by_itself else own.sign(authority_key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    (folder / "server.pem").write_bytes(private + signed.public_bytes(pem))
    (folder / "authority.pem").write_bytes(authority.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(folder / "server.pem")
    return context, folder / "authority.pem"


class TestProxy:
    """An HTTP proxy.

    Attributes:
        seen: the heads of the requests that came, as (line, headers).

    Args:
        refusal: answers every request in place of the host, if given.
        user: `user:password` that it wants, as bytes.
        authority: makes a certificate for every host: what passes is read, as a company's proxy does.
        route: the port of this machine at which a host is served; else the port that is asked for.
        greeting: headers of the answer that says that there is a tunnel.
    """

    __test__ = False

    def __init__(
        self,
        *,
        refusal: bytes | None = None,
        user: bytes = b"",
        authority: trustme.CA | None = None,
        route: Callable[[str], int] | None = None,
        greeting: str = "",
    ) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self._refusal, self._authority, self._route = refusal, authority, route
        self._greeting = greeting.encode()
        self._user = base64.b64encode(user).decode() if user else ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        line, headers, body = await read_request(reader)
        self.seen.append((line, headers))
        if self._refusal is not None:
            writer.write(self._refusal)
            return
        if self._user and headers.get("proxy-authorization", "") != f"Basic {self._user}":
            challenge = 'Proxy-Authenticate: Basic realm="company"'
            writer.write(answer("407 Proxy Authentication Required", "<html></html>", "text/html", challenge))
            return
        method, target, _ = line.split(" ")
        if method != "CONNECT":
            await self._forward(target, line, headers, body, writer)
            return
        host, _, port = target.rpartition(":")
        writer.write(b"HTTP/1.1 200 Connection established\r\n%b\r\n" % self._greeting)
        await writer.drain()
        if self._authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._authority.issue_cert(host).configure_cert(context)
            await writer.start_tls(context)
        to = self._route(host) if self._route else int(port)
        there, back = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(_pump(reader, back), _pump(there, writer))

    async def _forward(
        self, target: str, line: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        host, _, path = target.partition("://")[2].partition("/")
        name, _, port = host.partition(":")
        there, back = await asyncio.open_connection("127.0.0.1", self._route(name) if self._route else int(port))
        lines = [f"{line.split(' ')[0]} /{path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items() if name and not name.startswith("proxy-")]
        back.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body)
        await _pump(there, writer)
        back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what comes until it ends."""
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
