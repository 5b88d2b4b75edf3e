"""Why /var did not open: lines of the journal of the units that open it -> one sentence and what to do. Pure.

The texts are those of systemd 257 (src/shared/tpm2-util.c, src/cryptsetup/cryptsetup.c, src/partition/repart.c), of tpm2-tss
(error codes by name) and of libcryptsetup 2.7; what none of them matches is said in its own words.
"""

from __future__ import annotations

from collections.abc import Sequence

from bedplate.model.var import OnVarFailure, VarTrouble

_RECOVER = (
    "Open it elsewhere with the recovery key (bedplate var blob), or put the disk back into the state it was sealed in."
)
# (any of these in a line, what it means, what to do); the first that matches counts.
_REASONS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("dictionary attack lockout", "TPM_RC_LOCKOUT", "DA lockout", "dictionary lockout"),
        "the TPM refuses every key for a while after too many wrong ones (dictionary attack lockout)",
        "Leave the machine on for some hours, then start it again.",
    ),
    (
        ("integrity check failed", "TPM_RC_INTEGRITY", "Failed to load key into TPM", "Esys_Load() Esys Finish ErrorCode"),
        "the key was sealed by another TPM, or this TPM was cleared since",
        _RECOVER,
    ),
    (
        ("find signature for this PCR", "no PCR signature", "PCR signature file"),
        "the image that was booted brings no signature over PCR 11 by the key that /var was sealed for",
        "Boot an image that was built with the same keys, through its signed UKI.",
    ),
    (
        (
            "No TPM2 metadata matching the current system state",
            "policy digest",
            "Esys_Unseal() Esys Finish ErrorCode",
            "Esys_PolicyAuthorize() Esys Finish ErrorCode",
            "policy check failed",
            "TPM_RC_POLICY_FAIL",
            "value is out of range",
            "TPM_RC_VALUE",
        ),
        (
            "the TPM does not release the key: what was booted is not what /var was sealed to (PCR 7: Secure Boot and its "
            "keys, PCR 11: the image, PCR 12: what was given to it)"
        ),
        "Undo what was changed in the firmware's settings or given to the boot, then start the machine again. " + _RECOVER,
    ),
    (
        ("TPM2 operation failed", "Failed to unseal"),
        (
            "the TPM does not release the key: it is another TPM or was cleared, or what was booted is not what /var was "
            "sealed to (PCR 7: Secure Boot and its keys, PCR 11: the image, PCR 12: what was given to it)"
        ),
        _RECOVER,
    ),
    (
        ("No TPM2 metadata enrolled",),
        "the header of /var holds no key that a TPM has sealed",
        _RECOVER,
    ),
    (
        ("not a valid LUKS device", "LUKS2 superblock", "Failed to load LUKS", "No known problem detected in LUKS"),
        "the partition of /var holds no readable LUKS2 header",
        "The disk is damaged or was overwritten: restore /var from a backup, or delete the partition for an empty one.",
    ),
    (
        ("No space", "not enough free space", "Can't fit requested partitions", "disk is too small", "cannot fit"),
        "the disk is too small for /var",
        "Give the machine a larger disk.",
    ),
    (
        ("wrong fs type", "bad superblock", "Structure needs cleaning", "can't read superblock"),
        "the file system in /var is damaged",
        "Open it elsewhere with the recovery key and repair it with e2fsck.",
    ),
)
_MOST_CHARACTERS = 160  # of a journal line that is quoted


def explain_var(lines: Sequence[str], *, has_tpm: bool, has_partition: bool) -> VarTrouble:
    """The reason behind a /var that is not there.

    lines are what systemd-repart, systemd-cryptsetup and mount have said in this boot, oldest first.
    """
    if not has_tpm:
        return VarTrouble(
            why="the kernel sees no TPM on this machine, and the key of /var is sealed by a TPM",
            remedy="Turn the TPM on in the firmware's settings, or give the virtual machine its own. " + _RECOVER,
        )
    for texts, why, remedy in _REASONS:
        if any(text.lower() in line.lower() for line in lines for text in texts):
            return VarTrouble(why=why, remedy=remedy)
    if not has_partition:
        return VarTrouble(
            why=f"the disk of the root has no partition for /var{_quote(lines)}",
            remedy="Give the machine a disk with enough space; the next boot makes the partition.",
        )
    return VarTrouble(why=f"it could not be opened{_quote(lines)}", remedy=_RECOVER)


def render_trouble(trouble: VarTrouble, policy: OnVarFailure) -> str:
    """What is said on every console, in one line without a control character."""
    then = {
        OnVarFailure.SERVE: "What needs no /var is served.",
        OnVarFailure.REBOOT: "What needs no /var is served; the machine starts again in ten minutes.",
        OnVarFailure.WAIT: "Nothing is served, and the machine waits for a person.",
    }[policy]
    return clean(f"bedplate: /var is missing: {trouble.why}. {trouble.remedy} {then}")


def render_halt(units: Sequence[str], policy: OnVarFailure) -> str:
    """The same for a machine whose boot cannot go on."""
    failed = ", ".join(units) or "no unit failed; emergency or rescue mode was requested"
    then = {True: "The machine waits for a person.", False: "The machine starts again in ten minutes."}
    return clean(f"bedplate: the machine stopped: failed: {failed}. {then[policy is OnVarFailure.WAIT]}")


def clean(text: str) -> str:
    """Text that a terminal only prints: whatever is not printable ASCII becomes "?"."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _quote(lines: Sequence[str]) -> str:
    said = [
        line for line in lines if any(word in line.lower() for word in ("fail", "error", "cannot", "could not", "timed out"))
    ]
    return f" ({said[-1].strip()[:_MOST_CHARACTERS]})" if said else ""
