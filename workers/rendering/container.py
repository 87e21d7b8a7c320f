"""Zip files without dates or choices: the same content gives the same bytes, so that a change anywhere shows."""

import io
import zipfile
from collections.abc import Mapping

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can name: members carry no date of their own."""


def pack(files: Mapping[str, bytes], *, compressed: bool = False) -> bytes:
    """A zip whose bytes follow from names and contents alone."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, EPOCH)
            member.external_attr = 0o644 << 16
            member.create_system = 3
            archive.writestr(member, files[name], archive.compression)
    return stream.getvalue()
