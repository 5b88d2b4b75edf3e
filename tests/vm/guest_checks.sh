# Runs in the guest. Every check that does not hold is told; the last line says that all do.
bad=0
holds() { # what, command
    if ! eval "$2"; then echo "DOES NOT HOLD: $1"; bad=1; fi
}
contains() { case $1 in *"$2"*) return 0 ;; *) echo "$1" | head -5; return 1 ;; esac; }

var_volume() { echo "/dev/$(ls "/sys/class/block/$(basename "$(readlink -f /dev/mapper/varcrypt)")/slaves")"; }
strings_of_luks() { dd if=/dev/bedplate/var bs=64k count=4 2>/dev/null | tr -c "[:print:]" "\n" | grep -m1 systemd-tpm2; }

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
holds "/var is sealed to the TPM" 'contains "$(systemd-cryptenroll /dev/bedplate/var)" tpm2'
holds "... with the signed policy of PCR 11" 'contains "$(strings_of_luks)" "tpm2_pubkey_pcrs"'
holds "two slots" '[ "$(lsblk -n -o PARTTYPENAME | grep -c "Linux root (x86-64)")" -ge 3 ]' # A, B, and the engine layer
holds "no unit failed" '[ -z "$(systemctl --failed --no-legend --plain)" ]'
holds "the system is running" '[ "$(systemctl is-system-running)" = running ]'
for slice in inference system background neighbour; do
    holds "$slice.slice is there" '[ "$(systemctl show -P LoadState '$slice'.slice)" = loaded ]'
done
holds "engines weigh 19 times what others weigh: all but the floor" '[ "$(systemctl show -P CPUWeight inference.slice)" = $((19 * $(systemctl show -P CPUWeight neighbour.slice))) ]'
holds "background is idle" 'contains "$(systemctl show -P CPUWeight background.slice)" idle || [ "$(systemctl show -P CPUWeight background.slice)" = 0 ]'
holds "the engine runs in inference.slice" 'contains "$(systemctl show -P ControlGroup bedplate-engine@known-answer)" /inference.slice/'
exposure=$(systemd-analyze security --no-pager bedplate-engine@known-answer | sed -n "s/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p")
holds "exposure $exposure is at most 0.2" '[ "${exposure%.*}${exposure#*.}" -le 2 ]'
holds "the engine's layer is verified" '[ "$(dmsetup table | grep -c " verity ")" -ge 2 ]'
holds "four engines run" '[ "$(systemctl is-active "bedplate-engine@*" | grep -c "^active")" = 4 ]'
holds "... in one layer, which is mounted once, read-only" '[ "$(grep -c " /run/bedplate/layer/[^ ]* erofs ro," /proc/mounts)" = 1 ]'
holds "pressure is counted" '[ -r /proc/pressure/memory ]'
holds "the journal is on /var" '[ -d "/var/log/journal/$(cat /etc/machine-id)" ]'
holds "/var has a recovery key" 'contains "$(systemd-cryptenroll "$(var_volume)")" recovery'
holds "... encrypted to the owner's certificate, in the header" 'contains "$(strings_of_luks)" bedplate-recovery'
holds "... which no log holds" '! journalctl -b --no-pager | grep -qE "([cbdefghijklnrtuv]{8}-){7}[cbdefghijklnrtuv]{8}"'
holds "... and which is made once" 'contains "$(bedplate var enrol)" "already has a recovery key"'
holds "nobody changes to another user" '[ -z "$(find / -xdev -type f -perm /6000)" ]'
mounted() { # mount point, options
    options=$(sed -n "s|^[^ ]* $1 [^ ]* \([^ ]*\) .*|\1|p" /proc/mounts | tail -n 1)
    shift
    for option; do case ",$options," in *",$option,"*) ;; *) echo "$options"; return 1 ;; esac; done
}
holds "/ takes no devices and no setuid" 'mounted / nosuid nodev'
holds "/etc takes no devices and no setuid" 'mounted /etc nosuid nodev'
holds "/dev takes no setuid" 'mounted /dev nosuid'
for place in /tmp /dev/shm /var; do
    holds "$place runs nothing" 'mounted "$place" nosuid nodev noexec'
done
holds "nobody speaks LLMNR" '! grep -q ":14EB " /proc/net/udp /proc/net/udp6 /proc/net/tcp /proc/net/tcp6'
holds "nobody speaks LLDP" '! grep -qi " 88cc " /proc/net/packet'
holds "/dev/fuse, where it is, is root's" '[ ! -e /dev/fuse ] || [ "$(stat -c %a /dev/fuse)" = 600 ]'
holds "events of the hardware are root's" '[ "$(stat -c %a /run/acpid.socket)" = 600 ]'
exposed() { systemd-analyze security --no-pager "$1" | sed -n "s/.*Overall exposure level.*: \([0-9]*\)\.\([0-9]*\) .*/\1\2/p"; }
for unit in bedplate-tune bedplate-serve; do
    holds "$unit is exposed by at most 7.0" '[ "$(exposed $unit.service)" -le 70 ]'
done
for unit in emergency rescue; do
    holds "$unit mode asks nobody" 'contains "$(systemctl show -P ExecStart '$unit'.service)" "var halted"'
done
holds "no shell for debugging" '[ "$(systemctl show -P LoadState debug-shell.service)" = not-found ]'
holds "the front's script is the image's" 'cmp -s /usr/lib/bedplate/request.lua /run/bedplate/request.lua'
holds "no sshd" '! [ -e /usr/sbin/sshd ]'
[ "$bad" = 0 ] && echo "ALL CHECKS HOLD"
