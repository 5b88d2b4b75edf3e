"""Protect this host's engines: plan what to set, apply it as one transaction, verify it, take it back.

Nothing is set that the plan does not show, with its reason and its evidence. `apply` sets all of it or nothing: each value
is written ahead to a journal, read back, and taken back if it did not take. It lasts until the next boot; with --persist it
is also generated as files below /etc. `undo` gives back each value that is still ours, and names those that are not.

examples:
  bedplate tune plan                              what would be set here, why, and what not and why
  bedplate tune plan --policy latency --verbose   another aim, with all evidence
  bedplate tune plan --from host.tar.zst --json   for a recorded machine
  bedplate tune apply                             until the next boot
  bedplate tune apply --persist                   for all boots, too
  bedplate tune apply --confirm-within 10m --probe http://127.0.0.1:8080/health
  bedplate tune confirm                           keep it
  bedplate tune verify                            is it in force? (0 only if all is known to be)
  bedplate tune undo                              give everything back
  bedplate tune uninstall                         the same, and the log too

Ends with 1 when verify finds what differs or cannot be known, or when a change failed and all was taken back; with 6 when
the plan must not be applied here, with the reason, and nothing was changed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedplate.errors import BedplateError, PreflightError, UsageError
from bedplate.model.tuning import Held, Policy, Verified

if TYPE_CHECKING:
    from bedplate.act.tuning.place import Place
    from bedplate.host.root import Root
    from bedplate.model.proof import Proof
    from bedplate.model.tuning import Plan

HELP = "plan, apply, verify and undo what protects the engines of this host"
_BOOT_S = 30.0  # a boot goes on after that, with everything taken back
_PROBE_S = 10.0
_TIMER_WAIT_S = 600.0
_TIMES = {"s": 1, "m": 60, "h": 3600}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object")
    common.add_argument("--root", type=Path, default=Path("/"), help="read and write below this directory (%(default)s)")
    shown = argparse.ArgumentParser(add_help=False)
    shown.add_argument(
        "--policy",
        choices=[one.value for one in Policy],
        default=Policy.SHARED_HOST.value,
        help="what the machine is for (default: %(default)s)",
    )
    shown.add_argument("--verbose", action="store_true", help="all sources, and every knob that is left alone")
    plan = verbs.add_parser("plan", parents=[common, shown], help="what would be set, why, and what not; changes nothing")
    plan.add_argument("--from", dest="recording", metavar="PATH", type=Path, help="a recorded machine (default: this one)")
    apply = verbs.add_parser("apply", parents=[common, shown], help="set it, all or nothing")
    apply.add_argument("--persist", action="store_true", help="for all boots: generated files below /etc")
    apply.add_argument("--boot", action="store_true", help="for the boot's unit: bounded in time, always ends with 0")
    apply.add_argument("--confirm-within", metavar="TIME", help="take it back after TIME (10m) unless confirmed")
    apply.add_argument("--probe", metavar="URL", help="with --confirm-within: keep it when this answers 200 at that time")
    verbs.add_parser("verify", parents=[common], help="whether what was applied is in force")
    undo = verbs.add_parser("undo", parents=[common], help="give back each value that is still ours")
    undo.add_argument("--unless-confirmed", action="store_true", help="what the timer of --confirm-within runs")
    undo.add_argument("--probe", metavar="URL", help="with --unless-confirmed: keep it when this answers 200")
    verbs.add_parser("confirm", parents=[common], help="keep what was applied with --confirm-within")
    verbs.add_parser("log", parents=[common], help="what was applied, undone and recovered here")
    verbs.add_parser("uninstall", parents=[common], help="undo, and remove the log and every generated file")


def main(arguments: argparse.Namespace) -> int:
    from bedplate.cli.signals import signals_interrupt

    if arguments.verb == "plan":
        return _plan(arguments)
    if arguments.verb == "verify":
        return _verify(arguments)
    if arguments.verb == "log":
        return _log(arguments)
    with signals_interrupt():
        match arguments.verb:
            case "apply":
                return _boot(arguments) if arguments.boot else _apply(arguments)
            case "undo":
                return _undo(arguments)
            case "confirm":
                return _confirm(arguments)
            case _:
                return _uninstall(arguments)


# -- verbs


def _plan(arguments: argparse.Namespace) -> int:
    from bedplate.cli.audited import this_screen

    if arguments.recording is None:
        _recover_if_root(arguments.root)
    plan = make_plan(arguments.root, Policy(arguments.policy), recording=arguments.recording)
    if arguments.json:
        _print_plan(plan)
    else:
        from bedplate.cli.faces.plan import render_plan_text

        print(render_plan_text(plan, this_screen(), verbose=arguments.verbose), end="")
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    from bedplate.act.tuning import confirm, transaction
    from bedplate.act.tuning.journal import read_in_force
    from bedplate.act.tuning.place import hold_tune_lock, make_place
    from bedplate.act.tuning.services import Systemctl

    within_s = _parse_time(arguments.confirm_within) if arguments.confirm_within else None
    if arguments.probe and within_s is None:
        raise UsageError("--probe: goes with --confirm-within", hint="Add --confirm-within 10m.")
    services = Systemctl(arguments.root)
    if within_s is not None and not services.is_running():
        raise PreflightError(
            "--confirm-within: needs a timer of systemd, and process 1 is not systemd here", hint="Apply without it."
        )
    place = make_place(arguments.root, persist=arguments.persist)
    other = make_place(arguments.root, persist=not arguments.persist)
    with hold_tune_lock(arguments.root):
        _recover([place, other])
        if read_in_force(other) is not None and not arguments.persist:
            raise UsageError(
                "a plan is applied for all boots", hint="Add --persist, or take it back first: bedplate tune undo"
            )
        plan = _for_mode(
            make_plan(arguments.root, Policy(arguments.policy), persist=arguments.persist), persist=arguments.persist
        )
        if read_in_force(other) is not None and not plan.refusals:
            print("taking back what was applied until the next boot", file=sys.stderr)
            transaction.undo(other, services, why="applied for all boots instead")
            plan = _for_mode(
                make_plan(arguments.root, Policy(arguments.policy), persist=arguments.persist), persist=arguments.persist
            )
        if not arguments.json and (plan.refusals or plan.changes):
            _show(plan, verbose=arguments.verbose)
        if not plan.changes and not plan.refusals and read_in_force(place) is None:
            return _nothing(plan, arguments)
        if within_s is not None and not plan.refusals:
            more = ["--probe", arguments.probe] if arguments.probe else []
            confirm.arm(place, within_s, [*more, "--root", str(arguments.root)])
        try:
            done = transaction.apply(
                plan, place, services, on_step=_progress(), confirm=confirm.TIMER if within_s is not None else ""
            )
        except BaseException:
            if within_s is not None:
                confirm.disarm(arguments.root)
            raise
    if arguments.json:
        row = {"policy": plan.policy.value, "digest": plan.digest, "steps": done.steps, "persist": arguments.persist}
        print(json.dumps({**row, "drifted": list(done.drifted), "changes": _rows(done.verified)}, indent=1))
        return 0
    from bedplate.cli.audited import this_screen
    from bedplate.cli.faces.plan import render_verified

    print(render_verified(done.verified, this_screen()), end="")
    _say_drift(done.drifted)
    if within_s is not None:
        print(f"It is taken back in {arguments.confirm_within} unless you say: bedplate tune confirm")
    return 0


def _boot(arguments: argparse.Namespace) -> int:
    """The same without questions: whatever goes wrong is said and the boot goes on."""
    import signal
    from types import FrameType

    def too_long(_: int, __: FrameType | None) -> None:
        raise BedplateError(f"not done after {_BOOT_S:.0f} s: all was taken back")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, _BOOT_S)
    try:
        return _apply(arguments)
    except BedplateError as error:
        print(f"tuning: {error.message}", file=sys.stderr)
        return 0
    except OSError as error:
        print(f"tuning: {error}", file=sys.stderr)
        return 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _verify(arguments: argparse.Namespace) -> int:
    from bedplate.act.tuning import transaction
    from bedplate.act.tuning.services import Systemctl

    _recover_if_root(arguments.root)
    found = [transaction.verify(place, Systemctl(arguments.root)) for place in _places(arguments.root)]
    verified = next((one for one in found if one is not None), None)
    if verified is None:
        raise BedplateError("nothing is applied here", hint="Look at the plan: bedplate tune plan")
    if arguments.json:
        print(json.dumps({"changes": _rows(verified)}, indent=1))
    else:
        from bedplate.cli.audited import this_screen
        from bedplate.cli.faces.plan import render_verified

        print(render_verified(verified, this_screen()), end="")
    return int(any(one.held in (Held.DIFFERS, Held.UNKNOWN) for one in verified))


def _undo(arguments: argparse.Namespace) -> int:
    from bedplate.act.tuning import confirm
    from bedplate.act.tuning.journal import read_in_force
    from bedplate.act.tuning.place import hold_tune_lock

    why = "asked"
    # A timer comes once: it waits for who applies for longer than the time, or looks at what is applied just then.
    with hold_tune_lock(arguments.root, wait_s=_TIMER_WAIT_S if arguments.unless_confirmed else 0.0):
        _recover(_places(arguments.root))
        states = [one for one in map(read_in_force, _places(arguments.root)) if one is not None]
        if arguments.unless_confirmed:
            if not any(one.confirm for one in states):
                confirm.disarm(arguments.root)
                print("confirmed, or nothing is applied: nothing to do")
                return 0
            if arguments.probe and _answers(arguments.probe):
                for place in _places(arguments.root):
                    confirm.confirm(place)
                confirm.disarm(arguments.root)
                print(f"{arguments.probe} answers: kept")
                return 0
            why = "not confirmed in time"
        restored, drifted = _take_back(arguments.root, why)
        confirm.disarm(arguments.root)
    status = _say_undone(arguments, restored, drifted)
    return 0 if arguments.unless_confirmed else status  # the service is tried again when it fails: drift is no failure


def _confirm(arguments: argparse.Namespace) -> int:
    from bedplate.act.tuning import confirm
    from bedplate.act.tuning.place import hold_tune_lock

    with hold_tune_lock(arguments.root):
        _recover(_places(arguments.root))
        waited = [confirm.confirm(place) for place in _places(arguments.root)]
        confirm.disarm(arguments.root)
    if arguments.json:
        print(json.dumps({"confirmed": any(waited)}))
    else:
        print("Kept." if any(waited) else "Nothing waits to be confirmed.")
    return 0


def _log(arguments: argparse.Namespace) -> int:
    from bedplate.act.tuning.journal import read_log

    _recover_if_root(arguments.root)
    rows = sorted((row for place in _places(arguments.root) for row in read_log(place)), key=lambda row: str(row.get("at")))
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        changes = row.get("changes", [])
        print(f"{row.get('at')}  {row.get('what')}  {row.get('policy', row.get('kind', ''))}  {len(changes)} settings")
        for text in (*([row["error"]] if "error" in row else []), *row.get("drifted", [])):
            print(f"    {text}")
    if not rows:
        print("Nothing was ever applied here.")
    return 0


def _uninstall(arguments: argparse.Namespace) -> int:
    from bedplate.act.tuning import confirm, transaction
    from bedplate.act.tuning.place import hold_tune_lock
    from bedplate.act.tuning.services import Systemctl

    services = Systemctl(arguments.root)
    with hold_tune_lock(arguments.root):
        _recover(_places(arguments.root))
        restored, drifted = _take_back(arguments.root, "uninstalled")
        confirm.disarm(arguments.root)
        gone = [path for place in _places(arguments.root) for path in transaction.remove_everything(place)]
        if services.is_running() and any("/systemd/system/" in path for path in gone):
            services.reload()
    return _say_undone(arguments, [*restored, *(f"remove {path}" for path in gone)], drifted)


# -- what they share


def make_plan(root: Path, policy: Policy, *, persist: bool = False, recording: Path | None = None) -> Plan:
    """The plan of this machine, as it would be without what is applied, or of a recorded one."""
    from bedplate.act.tuning.baseline import read_unapplied
    from bedplate.act.tuning.journal import read_in_force
    from bedplate.act.tuning.place import make_place
    from bedplate.catalog.knobs import knob_configs, knob_paths, read_knobs
    from bedplate.catalog.policies import find_policy, read_policies
    from bedplate.host.device_speeds import read_device_speeds
    from bedplate.host.facts import read_host
    from bedplate.host.groups import read_groups
    from bedplate.plan.tune import plan_tuning

    knobs = read_knobs()
    row = find_policy(policy, read_policies())
    proofs: tuple[Proof, ...] = ()
    applied: Plan | None = None
    if recording is not None:
        from bedplate.host.recording import open_recording

        source, origin = open_recording(recording), recording.name
    else:
        place = make_place(root, persist=persist)
        if read_in_force(place) is None:
            place = make_place(root, persist=not persist)
        state = read_in_force(place)
        applied = state.plan if state is not None else None
        source, origin = read_unapplied(place), "live"
        proofs = _read_proofs(source)
    facts = read_host(source, knob_paths(knobs), origin=origin, config_options=knob_configs(knobs))
    io = read_device_speeds(source)
    return plan_tuning(facts, read_groups(source), knobs, row, proofs=proofs, io=io, applied=applied)


def _read_proofs(source: Root) -> tuple[Proof, ...]:
    """Verdicts of experiments on this host that hold now; the image is built without the room that makes them."""
    import importlib.util

    if importlib.util.find_spec("bedplate.prove") is None:
        return ()
    from bedplate.act.paths import find_paths
    from bedplate.prove.conditions import read_conditions
    from bedplate.prove.ledger import proofs_directory, valid_proofs

    return valid_proofs(proofs_directory(find_paths().state), read_conditions(source, ""))


def _for_mode(plan: Plan, *, persist: bool) -> Plan:
    """Kernel parameters need files that last: without --persist they are left alone, and said."""
    from dataclasses import replace

    from bedplate.model.tuning import Means, Skip

    if persist:
        return plan
    reason = "is a kernel parameter, which needs --persist and a reboot"
    parameters = [one for one in plan.changes if one.setting.means is Means.CMDLINE]
    return replace(
        plan,
        changes=tuple(one for one in plan.changes if one not in parameters),
        skips=(*(Skip(knob=one.knob, reason=f"{one.setting}={one.new} {reason}") for one in parameters), *plan.skips),
    )


def _places(root: Path) -> tuple[Place, Place]:
    from bedplate.act.tuning.place import make_place

    return make_place(root), make_place(root, persist=True)


def _recover(places: Sequence[Place]) -> None:
    from bedplate.act.tuning import transaction
    from bedplate.act.tuning.services import Systemctl

    for place in places:
        found = transaction.recover(place, Systemctl(place.top))
        if found is not None:
            words = {"apply": "taken back", "undo": "brought to its end", "commit": "already complete"}
            print(f"an interrupted change was found and is {words[found.kind]}", file=sys.stderr)
            _say_drift(found.drifted)


def _recover_if_root(root: Path) -> None:
    """First thing of the verbs that only read: they need no root, and then say what waits."""
    import os

    from bedplate.act.tuning.place import hold_tune_lock

    waiting = [place for place in _places(root) if place.journal.exists()]
    if not waiting:
        return
    if os.geteuid() != 0:
        print("an interrupted change waits to be taken back: run this with sudo", file=sys.stderr)
        return
    with hold_tune_lock(root):
        _recover(waiting)


def _take_back(root: Path, why: str) -> tuple[list[str], list[str]]:
    from bedplate.act.tuning import transaction
    from bedplate.act.tuning.services import Systemctl

    restored: list[str] = []
    drifted: list[str] = []
    for place in _places(root):
        done = transaction.undo(place, Systemctl(root), on_step=_progress(), why=why)
        restored += done.restored
        drifted += done.drifted
    return restored, drifted


def _answers(url: str) -> bool:
    """Whether a GET of the address gives 200 in time; anything else, an unknown scheme too, is no."""
    import urllib.request

    if not url.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(url, timeout=_PROBE_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def _parse_time(text: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([smh])", text)
    if found is None or not 10 <= int(found[1]) * _TIMES[found[2]] <= 7 * 86400:
        raise UsageError(f"--confirm-within: {text!r} is not a time such as 90s, 10m or 2h, of ten seconds to a week")
    return int(found[1]) * _TIMES[found[2]]


# -- output


def _progress() -> Any:
    def say(text: str) -> None:
        print(f"  {text}", file=sys.stderr)

    return say


def _show(plan: Plan, *, verbose: bool) -> None:
    from bedplate.cli.audited import this_screen
    from bedplate.cli.faces.plan import render_plan_text

    print(render_plan_text(plan, this_screen(), verbose=verbose), flush=True)


def _print_plan(plan: Plan) -> None:
    from bedplate.act.tuning.codec import render_plan

    print(json.dumps(render_plan(plan), indent=1))


def _nothing(plan: Plan, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(json.dumps({"policy": plan.policy.value, "digest": plan.digest, "steps": 0, "drifted": [], "changes": []}))
    else:
        print("Everything is as the plan wants it: nothing to change.")
    return 0


def _rows(verified: Sequence[Verified]) -> list[dict[str, Any]]:
    return [
        {
            "name": str(one.change.setting),
            "old": one.change.old,
            "new": one.change.new,
            "held": one.held.value,
            "effective": one.effective,
            "because": one.because,
        }
        for one in verified
    ]


def _say_undone(arguments: argparse.Namespace, restored: Sequence[str], drifted: Sequence[str]) -> int:
    if arguments.json:
        print(json.dumps({"restored": list(restored), "drifted": list(drifted)}, indent=1))
        return 0
    print(f"{len(restored)} steps taken back." if restored else "Nothing of bedplate is applied here.")
    _say_drift(drifted)
    return 0


def _say_drift(drifted: Sequence[str]) -> None:
    for text in drifted:
        print(f"not ours any more: {text}", file=sys.stderr)
