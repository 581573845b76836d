"""
Spare the garbage collector what stays: walking through all that Django loads takes it 170 ms, with everybody waiting.

Every webhook, socket and live picture of the process stood still for so long whenever a full collection came by, a few
times a minute under load.
"""

import gc

from django.urls import get_resolver


def keep_what_is_loaded() -> None:
    """
    Take what was loaded so far out of the collector's sight; for a process that serves, once, when it begins.

    The pages' modules are loaded before, which else their first request would do.
    """
    _ = get_resolver().url_patterns
    gc.collect()
    gc.freeze()
