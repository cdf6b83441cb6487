"""The end of the interpreter, while threads and `atexit` callbacks still ask.

Once the main thread has ended, the executors of the standard library take no more work, and Python 3.12 starts no
more threads. Later, when objects are taken apart, a thread that is started never begins, and `start` waits for it for
ever. What is asked then is done where it is asked.
"""

import sys
import threading
from collections.abc import Callable


def interpreter_ends() -> bool:
    """Say whether the main thread has ended: what is left are other threads, `atexit` callbacks and destructors."""
    return sys.is_finalizing() or not threading.main_thread().is_alive()


def imports_end() -> bool:
    """Say whether nothing can be imported any more: the interpreter takes its objects apart."""
    return getattr(sys, "meta_path", None) is None


def start_daemon(work: Callable[[], None], name: str) -> None:
    """Start `work` in a daemon thread; where the interpreter ends and starts none, do it here.

    Raises:
        RuntimeError: the system cannot start another thread.
    """
    if sys.is_finalizing():
        work()
        return
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError:
        if not interpreter_ends():
            raise
        work()
