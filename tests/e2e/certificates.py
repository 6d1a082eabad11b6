"""Certificates made on the spot: an authority, and what it signs. PEM files, keys readable by their owner alone."""

import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def _subject(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(name):
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    def __init__(self, folder, name="authority"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (x509.CertificateBuilder().subject_name(self._name).issuer_name(self._name)
                       .public_key(self._key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(now - DAY).not_valid_after(now + 3650 * DAY)
                       .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                       .sign(self._key, hashes.SHA256()))
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.path = self.folder / f"{name}.crt"
        self.path.write_bytes(self.pem)

    def issue(self, file, *names, begins=-1, ends=365):
        """FILE.crt and FILE.key for all `names` (hosts, addresses, URIs); `begins` and `ends` in days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (x509.CertificateBuilder().subject_name(_subject(names[0])).issuer_name(self._name)
                       .public_key(key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(now + begins * DAY).not_valid_after(now + ends * DAY)
                       .add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
                       .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                                      critical=False)
                       .sign(self._key, hashes.SHA256()))
        return Pair(self.folder / file, certificate.public_bytes(serialization.Encoding.PEM),
                    key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()), certificate.serial_number)


class Pair:
    def __init__(self, stem, certificate_pem, key_pem, serial):
        self.certificate_pem, self.key_pem, self.serial = certificate_pem, key_pem, serial
        self.crt, self.key = stem.with_suffix(".crt"), stem.with_suffix(".key")
        self.put_at(self.crt, self.key)

    def put_at(self, crt, key):
        """In place of what is there, each file by a rename, as those do it who renew certificates."""
        for path, pem in ((crt, self.certificate_pem), (key, self.key_pem)):
            new = path.with_name(path.name + ".new")
            new.touch(mode=0o600)
            new.write_bytes(pem)
            new.rename(path)
