# SPDX-License-Identifier: MIT
"""Certificate authorities and certificates, good and bad, made with the openssl command in a folder."""
import ssl
import subprocess
import warnings

CONFIG = """
[ca]
default_ca = this
[this]
database = {folder}/{name}.index
serial = {folder}/{name}.serial
new_certs_dir = {folder}
certificate = {folder}/{name}.pem
private_key = {folder}/{name}.key
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, f"openssl {' '.join(map(str, arguments))}: {done.stderr}"


class Authority:
    """A private CA."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        self.pem, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj", f"/CN={name}",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
                "-keyout", self.key, "-out", self.pem)
        self.config = folder / f"{name}.conf"
        self.config.write_text(CONFIG.format(folder=folder, name=name))
        (folder / f"{name}.index").write_text("")
        (folder / f"{name}.serial").write_text("1000\n")

    def issue(self, name, names="IP:127.0.0.1,DNS:localhost", start="20200101000000Z", end="20991231235959Z", common=None,
              usage="serverAuth"):
        """(certificate file, key file). names=None: no subjectAltName at all."""
        pem, key, csr, extensions = (self.folder / f"{name}.{kind}" for kind in ("pem", "key", "csr", "ext"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={common or name}", "-keyout", key, "-out", csr)
        lines = ["basicConstraints=CA:FALSE", f"extendedKeyUsage={usage}"]
        if names:
            lines.append(f"subjectAltName={names}")
        extensions.write_text("\n".join(lines) + "\n")
        openssl("ca", "-batch", "-notext", "-config", self.config, "-in", csr, "-out", pem, "-extfile", extensions,
                "-startdate", start, "-enddate", end)
        return pem, key


def self_signed(folder, name="self"):
    pem, key = folder / f"{name}.pem", folder / f"{name}.key"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", pem)
    return pem, key


def server(pair, newest=None):
    """An ssl.SSLContext for an Upstream."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, pair))
    if newest:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what is wanted here
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = newest
    return context
