"""Layer 1: files on servers. Listing them, and bringing them here whole: resumed, checked, within limits."""

from __future__ import annotations

from msicube.remote.files import RemoteFile
from msicube.remote.http import HttpClient, Patience, Token
from msicube.remote.names import is_url, place_inside, safe_name, shown
from msicube.remote.pool import Outcome, Servers, check_space, fetch_all
from msicube.remote.transfer import Receipt, fetch, find_receipt

__all__ = [
    "HttpClient",
    "Outcome",
    "Patience",
    "Receipt",
    "RemoteFile",
    "Servers",
    "Token",
    "check_space",
    "fetch",
    "fetch_all",
    "find_receipt",
    "is_url",
    "place_inside",
    "safe_name",
    "shown",
]
