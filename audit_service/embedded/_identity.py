"""As whom Postgres runs: it refuses root, so root lends it another identity."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from audit_service.errors import DatabaseDown

_OTHER_USERS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Identity:
    """How a command is started and who owns its files."""

    prefix: tuple[str, ...] = ()
    """Put before the command."""
    user: pwd.struct_passwd | None = None
    """Another user of this machine; none means that the files stay ours."""

    def popen_options(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Hand a path and all below it to this identity, if another one used it before."""
        uid, gid = (os.geteuid(), os.getegid()) if self.user is None else (self.user.pw_uid, self.user.pw_gid)
        if path.stat().st_uid != uid:
            for part in (path, *path.rglob("*")):
                os.chown(part, uid, gid, follow_symlinks=False)

    def can_enter(self, folder: Path) -> bool:
        if self.user is None:
            return True
        answer = subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)], cwd="/", check=False, **self.popen_options()
        )
        return answer.returncode == 0


@cache
def present_identity() -> Identity:
    """Ourselves; as root a user namespace where the kernel allows one, and otherwise another user."""
    if os.geteuid() != 0:
        return Identity()
    return in_user_namespace() or as_other_user()


def in_user_namespace() -> Identity | None:
    """Root's own files under a mapped id; none where the kernel refuses, as in a chroot or a strict container."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    # initdb wants its user id to have a name; that of nobody has one everywhere.
    nobody = str(_nobody().pw_uid)
    prefix = (unshare, "--user", f"--map-user={nobody}", f"--map-group={nobody}")
    refused = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode  # noqa: S603
    return None if refused else Identity(prefix=prefix)


def as_other_user() -> Identity:
    users = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in _OTHER_USERS:
        if name in users:
            return Identity(user=users[name])
    raise DatabaseDown(
        "PostgreSQL does not run as root, and this machine has neither a user `postgres` nor a user `nobody`.",
        remedy="Start audit-service as an ordinary user, or set AUDIT_DATABASE_URL.",
    )


def _nobody() -> pwd.struct_passwd:
    return as_other_user().user or pwd.getpwuid(os.geteuid())
