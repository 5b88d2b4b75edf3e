"""Show the certificate authority of this machine's front end, and renew the certificate that it signs.

Clients that trust the CA accept the front end under each name in its certificate: the host name, localhost, the addresses of
the machine, and `front.tls.names` of machine.toml. A timer renews the certificate in time; no connection is lost.

examples:
  bedplate ca show > bedplate-ca.pem     print the CA's certificate
  bedplate ca show --json                print it with its fingerprint and the certificate in use
  bedplate ca renew                      renew the certificate if it is half over or lacks a name
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from bedplate.cli.subcommand import add_subcommand
from bedplate.cli.talk import Talk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `bedplate ca`."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_subcommand(
        verbs, "show", parents=[common], help="print the CA's certificate in PEM", examples=("bedplate ca show > ca.pem",)
    )
    add_subcommand(
        verbs, "renew", parents=[common], help="renew the certificate where it is time", examples=("bedplate ca renew",)
    )


def main(arguments: argparse.Namespace) -> int:
    """Exit status 0 when the CA was shown, or the certificate in use is good.

    Raises ReadError where the machine has no CA, BedplateError where the front end did not take a new certificate.
    """
    from bedplate.flows import ca

    if arguments.verb == "renew":
        renewed = ca.renew(Talk(), now_s=int(time.time()))
        print(json.dumps({"renewed": renewed}) if arguments.json else "renewed" if renewed else "nothing to renew")
        return 0
    shown = ca.show()
    if arguments.json:
        row = {"fingerprint_sha256": shown.fingerprint, "pem": shown.pem, "certificate": shown.certificate}
        print(json.dumps(row, indent=2))
    else:
        print(shown.pem, end="")
        print(f"SHA-256 fingerprint: {shown.fingerprint}", file=sys.stderr)
    return 0
