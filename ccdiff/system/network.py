"""Whether somebody on the network answers, asked with a bounded wait."""

import functools
import http.client
import ssl
import threading
import urllib.error
import urllib.request

__all__ = ["answers"]


@functools.cache
def answers(url: str, *, seconds: float) -> bool:
    """Whether a server answers soon, whatever it says; asked once in a process, also by a sweep.

    In a thread, because looking up a name has no time limit of its own.

    Arguments:
        url: Of the server.
        seconds: The longest wait.
    """
    answered: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=seconds).close()
        except urllib.error.HTTPError:
            pass
        except urllib.error.URLError as error:
            # Certificates that Python does not know, others may.
            if not isinstance(error.reason, ssl.SSLError):
                return
        except (OSError, http.client.HTTPException, ValueError):
            return
        answered.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answered)
