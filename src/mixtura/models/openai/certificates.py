"""What failed where a TLS connection was made: which certificate, why it was not accepted, and what to do."""

import datetime as dt
import ssl

from mixtura.models.openai.trust import FILE, Trust

# By number, for texts differ between releases: OpenSSL's, then those of macOS and Windows (`truststore` hands them on).
_EXPIRED = frozenset({10, -67818, -2146762495})
_NOT_YET = frozenset({9, -67819})
_OTHER_NAME = frozenset({62, 63, 64, -67602, -2146762481})
_REVOKED = frozenset({23, -67820, -2146885616})
_SIGNED_BY_ITSELF = frozenset({18})
_UNKNOWN_ISSUER = frozenset({2, 19, 20, 21, 27, -67843, -2146762487})
_ISSUER_NOT_SENT = frozenset({20, 21})
_WEAK = frozenset({66, 67, 68})

_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")
_OLD = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW")
_WANTS_ONE = ("CERTIFICATE_REQUIRED", "PEER_DID_NOT_RETURN", "ALERT_BAD_CERTIFICATE", "ALERT_UNKNOWN_CA")
_WEAK_WORDS = ("KEY_TOO_SMALL", "MD_TOO_WEAK", "LEGACY_SIGALG", "UNSAFE_LEGACY", "INSUFFICIENT_SECURITY")
_NO_CERTIFICATE_SENT = (
    "wants a certificate of this machine, and Mixtura sends none; put a proxy that holds one in between (stunnel)"
)


def why_refused(error: BaseException, whom: str, trust: Trust, now: dt.datetime) -> str:
    """Return the sentence for a certificate that was not accepted.

    Args:
        error: of the handshake.
        whom: whose certificate it is, in words.
        trust: which authorities are trusted.
        now: this machine's time.
    """
    code, said = (
        _number(getattr(error, "verify_code", None)),
        _words(getattr(error, "verify_message", "") or str(error)),
    )
    subject, clock = f"the TLS certificate of {whom}", f"{now:%Y-%m-%d %H:%M} UTC"
    if code in _EXPIRED:
        return (
            f"{subject} has expired; whoever runs it has to renew it, unless this machine's clock is wrong "
            f"(it says {clock})"
        )
    if code in _NOT_YET:
        return f"{subject} is not valid yet; is this machine's clock right (it says {clock})?"
    if code in _OTHER_NAME:
        return (
            f"{subject} is made out for another name ({said}); either the address is not the one that it is meant for, "
            "or something on the way answers in its place, such as a proxy or a login page"
        )
    if code in _REVOKED:
        return f"{subject} was revoked by the authority that signed it; ask whoever runs it for a new one"
    if code in _WEAK:
        return _weak(subject, said)
    if code in _SIGNED_BY_ITSELF:
        return f"{subject} is signed by itself and not by an authority ({said}); {_how_to_trust(trust, 'certificate')}"
    if code in _UNKNOWN_ISSUER:
        left_out = "; or its server leaves out an intermediate certificate, and has to send it" * (
            code in _ISSUER_NOT_SENT
        )
        why = f"{subject} is signed by an authority that is not trusted here ({said})"
        return f"{why}; {_how_to_trust(trust, 'authority')}{left_out}"
    return f"{subject} was not accepted ({said}); whoever made it has to make it anew, or it is not the one you expect"


def refused_below(error: BaseException | None, whom: str) -> str:
    """Return the sentence for a certificate that was not accepted below an error of another library, "" for none."""
    for _ in range(8):
        if isinstance(error, ssl.SSLCertVerificationError):
            return why_refused(error, whom, Trust(), dt.datetime.now(dt.UTC))
        if error is None:
            break
        error = error.__cause__ or error.__context__
    return ""


def _number(code: object) -> int | None:
    """Return an error's number as a signed one of 32 bits, as some systems write them."""
    if not isinstance(code, int):
        return None
    return code - (1 << 32) if code >= 1 << 31 else code


def _how_to_trust(trust: Trust, what: str) -> str:
    """Say how to trust what signed a certificate."""
    owner = "your company's proxy or authority" if what == "authority" else "a server of your own"
    if trust.file:
        how = f"trusted are those in {trust.named} alone, so add the {what} to that file (PEM)"
    elif trust.folder:
        how = f"trusted are those in {trust.named} alone, so add the {what} there (PEM) and run `openssl rehash` on it"
    elif trust.unread:
        how = f'{trust.unread} is not read, so export {FILE}="${trust.unread}"'
    else:
        how = f"set {FILE} to a PEM file that holds the {what}, or add it to {trust.named}"
    return f"if it is that of {owner}, {how}"


def _weak(subject: str, said: str) -> str:
    return (
        f"{subject} has a key or a signature that is too weak for this machine's OpenSSL ({said}); whoever runs it, or "
        "the proxy that made it, has to replace it"
    )


def why_no_tls(error: BaseException, whom: str) -> tuple[str, bool]:
    """Return the sentence for a TLS connection that was not made for another reason, and whether it will stay so.

    Args:
        error: of the handshake.
        whom: who answered, in words.
    """
    reason = reason_of(error)
    if any(word in reason for word in _NO_TLS):
        return f"no TLS connection to {whom} could be made, for what answers speaks no TLS", True
    if any(word in reason for word in _OLD):
        return (
            f"{whom} speaks no version of TLS that is accepted here (1.2 or newer); it has to be brought up to date",
            True,
        )
    if any(word in reason for word in _WANTS_ONE):
        return f"{whom} {_NO_CERTIFICATE_SENT}", True
    if any(word in reason for word in _WEAK_WORDS):
        return _weak(f"what {whom} offers for TLS", reason.lower().replace("_", " ")), True
    if "UNRECOGNIZED_NAME" in reason:
        return f"{whom} refused the TLS connection, for it has no certificate for that name", True
    if "HANDSHAKE_FAILURE" in reason or "NO_SHARED_CIPHER" in reason:
        return (
            f"{whom} refused the TLS connection; it knows none of the offered ciphers, or {_NO_CERTIFICATE_SENT}",
            True,
        )
    words = reason.lower().replace("_", " ") or _words(str(error))
    return f"no TLS connection to {whom} could be made ({words or 'it was broken off'})", False


def reason_of(error: BaseException | None) -> str:
    """Return OpenSSL's name of what went wrong, such as CERTIFICATE_REQUIRED; "" where it was nothing of TLS."""
    for _ in range(5):
        if error is None:
            break
        if isinstance(error, ssl.SSLError):
            return error.reason or " ".join(str(part) for part in error.args)
        if "[SSL" in str(error):
            return str(error)
        error = error.__cause__ or error.__context__
    return ""


def _words(said: str) -> str:
    """Return a library's words on one line, without the place in its source."""
    line = " ".join(said.split()).partition(" (_ssl.c")[0]
    return line[:200].rstrip(".")
