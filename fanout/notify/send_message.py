"""Send one message through Apprise: ``python -m fanout.notify.send_message``, with the order as JSON on standard input.

A process of its own, because Apprise and what it imports take 0.1 s and 15 MB, and because it can be killed.
"""

from __future__ import annotations

import json
import logging
import sys
import time

PAUSES = (0.0, 2.0, 5.0)  # seconds before each try


def main() -> int:
    """Send the message; return 0 if every service accepted it. Print the kinds of services that did not."""
    import apprise

    logging.disable(logging.CRITICAL)  # its messages may contain addresses
    order = json.load(sys.stdin)
    pending = []
    for url in order["urls"]:
        service = apprise.Apprise.instantiate(url)
        if service is None:
            print(f"{url.partition(':')[0]}: Apprise does not know this form of address")
            return 1
        pending.append(service)
    for pause in PAUSES:
        time.sleep(pause)
        pending = [service for service in pending if not service.notify(body=order["text"], title=order["title"])]
        if not pending:
            return 0
    print(f"{', '.join(str(service.service_name) for service in pending)}: not accepted in {len(PAUSES)} tries")
    return 1


if __name__ == "__main__":
    sys.exit(main())
