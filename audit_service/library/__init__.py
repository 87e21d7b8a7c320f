"""The behavior library: ready audits, one file each, that a user copies and adapts."""
