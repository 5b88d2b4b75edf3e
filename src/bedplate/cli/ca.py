"""Show the certificate authority of a machine's front end, fetch it from elsewhere, and renew the certificate that it signs.

Clients that trust the CA accept the front end under each name in its certificate: the host name, localhost, the addresses of
the machine, and `front.tls.names` of machine.toml. A timer renews the certificate in time; no connection is lost.

examples:
  bedplate ca show > bedplate-ca.pem     print the CA's certificate
  bedplate ca show --json                print it with its fingerprint and the certificate in use
  bedplate ca fetch llm.example.org:8080 --fingerprint 3A:5B:... > bedplate-ca.pem
                                         get it from another host, and compare it with what the machine's console showed
  bedplate ca renew                      renew the certificate if it is half over or lacks a name
"""

from __future__ import annotations

import argparse
import time

from bedplate.cli import argument_types
from bedplate.cli.result import print_result
from bedplate.cli.subcommand import add_subcommand, run_subcommand
from bedplate.cli.talk import Talk
from bedplate.flows import ca


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate ca`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    show, renew = ("bedplate ca show > ca.pem",), ("bedplate ca renew",)
    add_subcommand(verbs, "show", run=_show, json="print JSON", help="print the CA's certificate in PEM", examples=show)
    fetch = add_subcommand(
        verbs,
        "fetch",
        run=_fetch,
        json="print JSON",
        help="print the CA's certificate that another machine presents",
        examples=("bedplate ca fetch llm.example.org:8080 --fingerprint 3A:5B:... > ca.pem",),
    )
    fetch.add_argument("address", metavar="HOST:PORT", type=argument_types.host_and_port, help="where its front end listens")
    fetch.add_argument(
        "--fingerprint",
        metavar="SHA256",
        type=argument_types.sha256,
        help="fingerprint that the CA must have; the machine prints it on its consoles",
    )
    add_subcommand(
        verbs, "renew", run=_renew, json="print JSON", help="renew the certificate where it is time", examples=renew
    )


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the CA was shown, or the certificate in use is good.

    Raises ReadError where the machine has no CA or another one than expected, NotRunningError where nobody answers, and
    BedplateError where the front end did not take a new certificate.
    """
    return run_subcommand(arguments)


def _renew(arguments: argparse.Namespace) -> int:
    renewed = ca.renew(Talk(), now_s=int(time.time()))
    return print_result(arguments, {"renewed": renewed}, "renewed\n" if renewed else "nothing to renew\n", indent=None)


def _show(arguments: argparse.Namespace) -> int:
    shown = ca.show()
    record = {"fingerprint_sha256": shown.fingerprint, "pem": shown.pem, "certificate": shown.certificate}
    print_result(arguments, record, shown.pem)
    if not arguments.json:
        Talk().note(f"SHA-256 fingerprint: {shown.fingerprint}")
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    host, port = arguments.address
    fetched = ca.fetch(host, port, fingerprint=arguments.fingerprint)
    record = {"fingerprint_sha256": fetched.fingerprint, "pem": fetched.pem, "confirmed": fetched.confirmed}
    print_result(arguments, record | {"not_verified_because": fetched.names_problem}, fetched.pem)
    if arguments.json:
        return 0
    Talk().note(f"SHA-256 fingerprint: {fetched.fingerprint}")
    if not fetched.confirmed:
        Talk().note("Compare it with the fingerprint on the machine's console before you trust it.")
    if fetched.names_problem is not None:
        Talk().note(f"Clients that trust it do not accept {host}:{port}: {fetched.names_problem}")
    return 0
