"""``fanout notify``: list the services for messages, or send a test message to one."""

from __future__ import annotations

from fanout.model.exit_status import ExitStatus
from fanout.model.request import Request
from fanout.notify.chat_services import VARIABLE, find_service_file, list_entries, read_addresses, send_to_services
from fanout.run.process_context import ProcessContext


def run_notify(request: Request, process: ProcessContext) -> int:
    """Run the command; return the exit status."""
    name, environ = request.given["test"], process.environ
    if not name:
        entries = list_entries(environ)
        lines = entries or [f"no service: write {find_service_file(environ)}, or set ${VARIABLE} and use the name env"]
        process.stdout.write("".join(f"{line}\n" for line in lines))
        return ExitStatus.SUCCESS
    addresses = read_addresses(name, environ)
    why = send_to_services(addresses, "fanout: test", f"A test message from {process.machine}.")
    if why:
        process.print_message(f"{name}: {why}")
        return ExitStatus.NEGATIVE
    process.stdout.write(f"{name}: sent\n")
    return ExitStatus.SUCCESS
