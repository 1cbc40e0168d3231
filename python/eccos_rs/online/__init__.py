"""Deprecated name of `eccos_rs.session`."""

import warnings

from eccos_rs.session import *  # noqa: F403
from eccos_rs.session import __all__  # noqa: F401

warnings.warn(
    "eccos_rs.online is now eccos_rs.session; the old name goes in 0.3", DeprecationWarning, stacklevel=2
)
