# Runs in the guest. Every check that does not hold is told; the last line says that all do.
bad=0
holds() { # what, command
    if ! eval "$2"; then echo "DOES NOT HOLD: $1"; bad=1; fi
}
contains() { case $1 in *"$2"*) return 0 ;; *) echo "$1" | head -5; return 1 ;; esac; }

strings_of_luks() { dd if=/dev/disk/by-partlabel/bedplate-var bs=64k count=4 2>/dev/null | tr -c "[:print:]" "\n" | grep -m1 systemd-tpm2; }

tries=120 # seconds: serving starts before the boot is over
while [ "$(systemctl is-system-running)" = starting ] && [ "$tries" -gt 0 ]; do tries=$((tries - 1)); echo "starting"; sleep 1; done
holds "the kernel is the manifest's, 7.3 or newer" '[ "$(uname -r)" = "@KERNEL@" ] && contains "$(uname -r)" 7.'
holds "Secure Boot is on" '[ "$(od -An -t u1 -j 4 -N 1 /sys/firmware/efi/efivars/SecureBoot-* | tr -d " ")" = 1 ]'
holds "the kernel is locked down" 'contains "$(cat /sys/kernel/security/lockdown)" "[integrity]"'
holds "PCR 11 is what the manifest predicts" '[ "$(tr A-F a-f </sys/class/tpm/tpm0/pcr-sha256/11)" = "@PCR11@" ]'
holds "the root is verified" 'contains "$(dmsetup table root)" " verity "'
holds "the root is EROFS, read-only" 'contains "$(grep " / " /proc/mounts)" "erofs ro"'
holds "the root takes no write" '! touch /usr/written 2>/dev/null'
holds "/etc is volatile" 'contains "$(grep " /etc " /proc/mounts)" overlay'
holds "the machine id is of the firmware, not random" '[ "$(cat /etc/machine-id)" = "$(echo "bedplate machine id $(cat /sys/class/dmi/id/product_uuid)" | sha256sum | cut -c1-32)" ]'
holds "/var is encrypted" 'contains "$(dmsetup table varcrypt)" " crypt "'
holds "/var is on it" 'contains "$(grep " /var " /proc/mounts)" /dev/mapper/varcrypt'
holds "/var is sealed to the TPM" 'contains "$(systemd-cryptenroll /dev/disk/by-partlabel/bedplate-var)" tpm2'
holds "... with the signed policy of PCR 11" 'contains "$(strings_of_luks)" "tpm2_pubkey_pcrs"'
holds "two slots" '[ "$(lsblk -n -o PARTTYPENAME | grep -c "Linux root (x86-64)")" -ge 3 ]' # A, B, and the engine layer
holds "no unit failed" '[ -z "$(systemctl --failed --no-legend --plain)" ]'
holds "the system is running" '[ "$(systemctl is-system-running)" = running ]'
for slice in inference system background neighbour; do
    holds "$slice.slice is there" '[ "$(systemctl show -P LoadState '$slice'.slice)" = loaded ]'
done
holds "engines weigh 100 times what others weigh" '[ "$(systemctl show -P CPUWeight inference.slice)" -ge $((100 * $(systemctl show -P CPUWeight neighbour.slice))) ]'
holds "background is idle" 'contains "$(systemctl show -P CPUWeight background.slice)" idle || [ "$(systemctl show -P CPUWeight background.slice)" = 0 ]'
holds "the engine runs in inference.slice" 'contains "$(systemctl show -P ControlGroup bedplate-engine@known-answer)" /inference.slice/'
exposure=$(systemd-analyze security --no-pager bedplate-engine@known-answer | sed -n "s/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p")
holds "exposure $exposure is at most 2.0" '[ "${exposure%.*}${exposure#*.}" -le 20 ]'
holds "the engine's layer is verified" '[ "$(dmsetup table | grep -c " verity ")" -ge 2 ]'
holds "pressure is counted" '[ -r /proc/pressure/memory ]'
holds "the journal is on /var" '[ -d "/var/log/journal/$(cat /etc/machine-id)" ]'
holds "no sshd" '! [ -e /usr/sbin/sshd ]'
[ "$bad" = 0 ] && echo "ALL CHECKS HOLD"
