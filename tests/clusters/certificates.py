"""Certificates of an authority of our own, and of a stranger's."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs for nodes of this machine; all files stand in one folder."""

    folder: Path
    name: str

    @property
    def files(self) -> dict[str, str]:
        """As a job names them."""
        return {part: str(self.folder / f"{self.name}-{part}.pem") for part in ("ca", "cert", "key")}

    @property
    def flags(self) -> list[str]:
        """As Dask's command line takes them."""
        files = self.files
        return ["--tls-ca-file", files["ca"], "--tls-cert", files["cert"], "--tls-key", files["key"]]

    def sign(self) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        root, own = _certificate(f"{self.name} CA")
        key, node = _certificate(f"{self.name} node", root, own)
        files = self.files
        Path(files["ca"]).write_bytes(own.public_bytes(Encoding.PEM))
        Path(files["cert"]).write_bytes(node.public_bytes(Encoding.PEM))
        Path(files["key"]).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _certificate(
    name: str, signer: EllipticCurvePrivateKey | None = None, issuer: Certificate | None = None
) -> tuple[EllipticCurvePrivateKey, Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = made.add_extension(here, critical=False)
    return key, made.sign(signer or key, hashes.SHA256())
