"""The key of a de-identification, and the pseudonyms, unique identifiers and date shifts that follow from it.

Takes a key file; gives the same replacement for the same value and key, in every file and every run. Without the key nothing can be
traced back; whoever has it can check a guess. Keep it apart from the data.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from salus.errors import ConfigError
from salus.record.durable import create_once

KEY_BYTES = 32
LEAST_SHIFT_DAYS = 30
MOST_SHIFT_DAYS = 3650


@dataclass(frozen=True)
class Key:
    """A secret from which every replacement follows."""

    secret: bytes = field(repr=False)

    def digest(self, kind: str, value: str) -> bytes:
        """Return 32 bytes for a value of a kind.

        Source: HMAC-SHA-256, RFC 2104 and FIPS 198-1.
        """
        return hmac.new(self.secret, f"{kind}\0{value}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()

    def code(self, kind: str, value: str, *, digits: int = 12) -> str:
        """Return a pseudonym in hex digits.

        Example:
            >>> Key(bytes(32)).code("file", "a"), Key(bytes(32)).code("file", "b") == Key(bytes(32)).code("file", "a")
            ('3ff22b406202', False)
        """
        return self.digest(kind, value).hex()[:digits]

    def subject(self, subject_id: str) -> str:
        """Return the patient id that stands for this one."""
        return f"p{self.code('subject', subject_id)}"

    def uid(self, uid: str) -> str:
        """Return the DICOM unique identifier that stands for this one.

        Source: DICOM PS3.5 B.2, a UUID under 2.25.

        Example:
            >>> Key(bytes(32)).uid("1.2.3")
            '2.25.234032717547690397417324938095739642209'
        """
        return f"2.25.{int.from_bytes(self.digest('uid', uid)[:16], 'big') & ~(0xF << 76) | (0x4 << 76)}"

    def uuid(self, value: str) -> str:
        """Return the UUID that stands for an identifier of FHIR."""
        hexed = self.digest("fhir", value).hex()
        return f"{hexed[:8]}-{hexed[8:12]}-4{hexed[13:16]}-a{hexed[17:20]}-{hexed[20:32]}"

    def days(self, subject: str) -> int:
        """Return by how many days a patient's dates move: always into the past, never less than 30 and never more than 3,650."""
        span = MOST_SHIFT_DAYS - LEAST_SHIFT_DAYS + 1
        return -(LEAST_SHIFT_DAYS + int.from_bytes(self.digest("days", subject)[:8], "big") % span)


def read_key(path: Path) -> Key:
    """Return the key of a file, made with a new secret when it is absent; only its owner may read it.

    Raises:
        ConfigError: the file is no key, or cannot be read or made.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "secret.key"
        >>> read_key(path) == read_key(path)
        True
    """
    try:
        if not path.exists():
            path.parent.stat()  # it is not made here: a mistyped folder is an error
            create_once(path, secrets.token_hex(KEY_BYTES).encode() + b"\n")
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"Cannot use the key file '{path.name}': {type(error).__name__}. Name a file in a folder that you may write to."
        ) from error
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) < KEY_BYTES:
        raise ConfigError(
            f"Cannot use the key file '{path.name}': it does not hold {2 * KEY_BYTES} hex digits. "
            "Name a file that is absent, and one is made."
        )
    return Key(secret)
