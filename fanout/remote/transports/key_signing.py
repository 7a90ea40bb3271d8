"""Private keys: load them from files (OpenSSH's format, PKCS#8, PEM), and sign as ssh does."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from fanout.remote.transports.ssh_agent import put_string

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey
else:
    PrivateKey = Any


def load_private_key(data: bytes, path: str) -> tuple[PrivateKey | None, bool, str]:
    """Return (the key or None, whether it needs a passphrase, why it cannot be used)."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    load = serialization.load_ssh_private_key if b"BEGIN OPENSSH" in data else serialization.load_pem_private_key
    try:
        key = load(data, password=None)
    except TypeError:  # cryptography raises it for a missing passphrase
        return None, True, ""
    except (ValueError, UnsupportedAlgorithm) as error:
        encrypted = "ncrypted" in str(error) or b"ENCRYPTED" in data
        return None, encrypted, "" if encrypted else f"{path} cannot be used: {_shorten_error(error)}"
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        return None, False, f"{path} has a key type that fanout's built-in ssh does not support"
    return key, False, ""


def _shorten_error(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]


def public_blob(private: PrivateKey) -> bytes:
    """Return the public key in ssh's wire format."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    text = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(text.split()[1])


def sign_data(private: PrivateKey, data: bytes, algorithm: str) -> bytes:
    """Return ssh's signature of ``data``: the name of the algorithm, then the signature itself."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    name = algorithm.partition("-cert-")[0]
    if isinstance(private, ed25519.Ed25519PrivateKey):
        signature = private.sign(data)
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        digest = {256: hashes.SHA256(), 384: hashes.SHA384()}.get(private.key_size, hashes.SHA512())
        signature = b"".join(
            _encode_mpint(number) for number in decode_dss_signature(private.sign(data, ec.ECDSA(digest)))
        )
    else:
        kind = hashes.SHA256() if name == "rsa-sha2-256" else hashes.SHA512()
        signature = private.sign(data, padding.PKCS1v15(), kind)
    return put_string(name.encode()) + put_string(signature)


def _encode_mpint(number: int) -> bytes:
    return put_string(number.to_bytes(number.bit_length() // 8 + 1, "big"))
