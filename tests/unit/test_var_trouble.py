"""Why /var is not there, in one sentence, from what the journal says."""

from __future__ import annotations

import pytest

from bedplate.model.var import OnVarFailure
from bedplate.plan.var_trouble import explain_var, render_halt, render_trouble


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["Failed to unseal secret using TPM2: State not recoverable", "TPM key integrity check failed."], "another TPM"),
        (["Esys_Load() failed: tpm:parameter(1):integrity check failed"], "another TPM"),
        (["Esys_PolicyAuthorize: tpm:parameter(1):value is out of range (TPM_RC_VALUE)"], "not what /var was sealed to"),
        (["Current policy digest does not match stored policy digest, cancelling TPM2 authentication."], "PCR 12"),
        (["WARNING:esys:... tpm:session(1):a policy check failed"], "not what /var was sealed to"),
        (["Couldn't find signature for this PCR bank, PCR index and public key.", "no PCR signature"], "PCR 11 by the key"),
        (["TPM2 device is in dictionary attack lockout mode."], "dictionary attack"),
        (["No TPM2 metadata matching the current system state found in LUKS2 header, falling back"], "PCR 12"),
        (["No TPM2 metadata enrolled in LUKS2 header, falling back to traditional unlocking."], "no key that a TPM"),
        (["Device /dev/vda9 is not a valid LUKS device."], "no readable LUKS2 header"),
        (["Can't fit requested partitions into available free space (15.2M), refusing."], "too small"),
        (["mount: /var: wrong fs type, bad option, bad superblock on /dev/mapper/varcrypt"], "file system in /var"),
        (["all is well", "Failed to flurb: No such quux"], "it could not be opened (Failed to flurb: No such quux)"),
        (["TPM2 operation failed, falling back to traditional unlocking: State not recoverable"], "it is another TPM or"),
        (  # read in a guest whose TPM was replaced
            [
                "WARNING:esys:src/tss2-esys/api/Esys_Load.c:324:Esys_Load_Finish() Received TPM Error",
                "ERROR:esys:src/tss2-esys/api/Esys_Load.c:112:Esys_Load() Esys Finish ErrorCode (0x0000018b)",
                "Failed to unseal secret using TPM2: State not recoverable",
                "TPM2 operation failed, falling back to traditional unlocking: State not recoverable",
                "Password querying disabled via 'headless' option.",
            ],
            "another TPM, or this TPM was cleared",
        ),
        ([], "it could not be opened"),
    ],
)
def test_each_failure_is_explained(lines: list[str], why: str) -> None:
    trouble = explain_var(lines, has_tpm=True, has_partition=True)
    assert why in trouble.why
    assert trouble.remedy.endswith(".")


def test_what_the_machine_lacks_is_said_first() -> None:
    assert "no TPM" in explain_var(["TPM_RC_VALUE"], has_tpm=False, has_partition=True).why
    assert "no partition for /var" in explain_var([], has_tpm=True, has_partition=False).why


@pytest.mark.parametrize(
    ("policy", "then"),
    [
        (OnVarFailure.SERVE, "What needs no /var is served."),
        (OnVarFailure.REBOOT, "starts again in ten minutes"),
        (OnVarFailure.WAIT, "Nothing is served"),
    ],
)
def test_the_line_says_why_and_what_follows_and_nothing_that_a_terminal_obeys(policy: OnVarFailure, then: str) -> None:
    trouble = explain_var(["Failed: \x1b[2J\x1b]0;owned\x07 \N{EURO SIGN}\r\n"], has_tpm=True, has_partition=True)
    line = render_trouble(trouble, policy)
    assert line.startswith("bedplate: /var is missing: ")
    assert line.endswith(".")
    assert then in line
    assert all(" " <= letter <= "~" for letter in line)


def test_a_boot_that_cannot_go_on_names_the_units() -> None:
    said = render_halt(["tmp.mount", "x.service"], OnVarFailure.SERVE)
    assert "failed: tmp.mount, x.service. The machine starts again" in said
    assert "waits for a person" in render_halt([], OnVarFailure.WAIT)
