"""Host certificates: verify one for a name and a time, and return the authority that signed it."""

from __future__ import annotations

import base64

from fanout.remote.transports.known_hosts import glob_matches

CERTIFICATE = "-cert-v01@openssh.com"


class InvalidCertificate(Exception):
    """The certificate is invalid; the text is the reason."""


def check_certificate(blob: bytes, name: str, now: float) -> bytes:
    """Return the public key of the authority that signed ``blob`` for host ``name``. Raises InvalidCertificate."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, ssh

    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")]
    try:
        certificate = ssh.load_ssh_public_identity(kind + b" " + base64.b64encode(blob))
        if not isinstance(certificate, ssh.SSHCertificate):
            raise InvalidCertificate("it is a plain key")
        certificate.verify_cert_signature()
        authority = certificate.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise InvalidCertificate(str(error) or type(error).__name__) from error
    if certificate.type is not ssh.SSHCertificateType.HOST:
        raise InvalidCertificate("it is the certificate of a user")
    if not certificate.valid_after <= now < certificate.valid_before:
        raise InvalidCertificate("it is not valid at this time")
    if certificate.critical_options:
        raise InvalidCertificate("it has an unknown critical option")
    principals = [principal.decode("utf-8", "replace") for principal in certificate.valid_principals]
    if not any(glob_matches(principal.lower(), name.lower()) for principal in principals):
        raise InvalidCertificate(f"it is for {', '.join(principals) or 'no host'}, not for {name}")
    return base64.b64decode(authority.split()[1])
