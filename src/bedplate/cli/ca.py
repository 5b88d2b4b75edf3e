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
import json
import sys
import time

from bedplate.cli import argument_types
from bedplate.cli.subcommand import add_subcommand
from bedplate.cli.talk import Talk

HELP = "show or fetch the front end's certificate authority, and renew its certificate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate ca`."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_subcommand(
        verbs, "show", parents=[common], help="print the CA's certificate in PEM", examples=("bedplate ca show > ca.pem",)
    )
    fetch = add_subcommand(
        verbs,
        "fetch",
        parents=[common],
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
        verbs, "renew", parents=[common], help="renew the certificate where it is time", examples=("bedplate ca renew",)
    )


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the CA was shown, or the certificate in use is good.

    Raises ReadError where the machine has no CA or another one than expected, NotRunningError where nobody answers, and
    BedplateError where the front end did not take a new certificate.
    """
    from bedplate.flows import ca

    if arguments.verb == "renew":
        renewed = ca.renew(Talk(), now_s=int(time.time()))
        print(json.dumps({"renewed": renewed}) if arguments.json else "renewed" if renewed else "nothing to renew")
        return 0
    if arguments.verb == "fetch":
        return _fetch(arguments)
    shown = ca.show()
    if arguments.json:
        row = {"fingerprint_sha256": shown.fingerprint, "pem": shown.pem, "certificate": shown.certificate}
        print(json.dumps(row, indent=2))
    else:
        print(shown.pem, end="")
        print(f"SHA-256 fingerprint: {shown.fingerprint}", file=sys.stderr)
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    from bedplate.flows import ca

    host, port = arguments.address
    fetched = ca.fetch(host, port, fingerprint=arguments.fingerprint)
    if arguments.json:
        row = {"fingerprint_sha256": fetched.fingerprint, "pem": fetched.pem, "confirmed": fetched.confirmed}
        print(json.dumps(row | {"not_verified_because": fetched.names_problem}, indent=2))
        return 0
    print(fetched.pem, end="")
    print(f"SHA-256 fingerprint: {fetched.fingerprint}", file=sys.stderr)
    if not fetched.confirmed:
        print("Compare it with the fingerprint on the machine's console before you trust it.", file=sys.stderr)
    if fetched.names_problem is not None:
        print(f"Clients that trust it do not accept {host}:{port}: {fetched.names_problem}", file=sys.stderr)
    return 0
