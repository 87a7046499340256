#!/bin/sh
# Makes what the virtual machine is made of, from Debian's packages only, in an empty directory:
#
#   qemu/            QEMU with its libraries, unpacked beside the system: nothing is installed on this machine
#   root.img         ext4: a Debian with systemd, runc, crun, CNI plugins, AppArmor and SELinux, and the files of guest/
#   vmlinuz, initrd
#
#   make-image.sh <directory> <suite> <mirror>
#
# Needs root, debootstrap and mkfs.ext4. To be run in a mount namespace of its own, so that no mount outlives it.
set -eu

here=$(dirname "$(readlink -f -- "$0")")
out=$1
suite=$2
mirror=$3
root=$out/root

say() { printf 'image  %s\n' "$*"; }
in_root() {
  chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive \
    ${http_proxy:+http_proxy="$http_proxy"} "$@"
}
apt_get() { in_root apt-get -q -y -o Acquire::Retries=3 --no-install-recommends "$@"; }

say "base system of $suite from $mirror"
debootstrap --variant=minbase "$suite" "$root" "$mirror"

mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
# No documentation, and no service starts now.
printf 'path-exclude=/usr/share/%s/*\n' doc man locale >"$root/etc/dpkg/dpkg.cfg.d/slim"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
# An initial system with what the disk needs, whatever machine makes it.
mkdir -p "$root/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=lz4\n' >"$root/etc/initramfs-tools/conf.d/vm"
printf '%s\n' virtio_pci virtio_blk virtio_console ext4 >"$root/etc/initramfs-tools/modules"

say 'packages of the guest'
apt_get install systemd systemd-sysv dbus udev kmod initramfs-tools lz4 linux-image-cloud-amd64 \
  runc crun containernetworking-plugins iptables nftables iproute2 procps \
  busybox-static catatonit docker-registry apparmor selinux-policy-default policycoreutils ca-certificates libatomic1
mv "$root"/boot/vmlinuz-* "$out/vmlinuz"
mv "$root"/boot/initrd.img-* "$out/initrd"

say 'emulator'
mkdir "$out/debs" "$out/qemu" "$root/debs"
mount --bind "$out/debs" "$root/debs"
mkdir "$out/debs/partial"
# As if nothing was installed, so that every library comes along.
apt_get -o Dir::State::status=/dev/null -o Dir::Cache::archives=/debs install --download-only qemu-system-x86 qemu-utils
umount "$root/debs"
rmdir "$root/debs"
for package in "$out"/debs/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$out/qemu" --exclude=./usr/share/doc --exclude=./usr/share/locale
done
rm -r "$out/debs"

say 'files of the guest'
cp -R "$here/guest/." "$root/"
echo cricket-vm >"$root/etc/hostname"
rm -f "$root/usr/sbin/policy-rc.d"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/boot/*
in_root systemctl --quiet enable vm-agent.service
# What a machine does in the background only costs time here.
in_root systemctl --quiet mask getty.target docker-registry.service systemd-tmpfiles-clean.timer systemd-pstore.service \
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service
umount "$root/dev" "$root/proc"
# The policy knows the domains of some runtimes, in which Node may make no code. Here ours is root's own, and may be one.
cat >"$root/root/cricket.cil" <<'POLICY'
(typeattributeset cil_gen_require container_domain)
(typeattributeset cil_gen_require unconfined_t)
(allow unconfined_t self (process (execmem)))
(allow container_domain unconfined_t (fifo_file (append getattr ioctl lock open read write)))
POLICY
in_root semodule --noreload --install=/root/cricket.cil
# A kernel without SELinux keeps labels, too: none has to be set at the first boot.
in_root setfiles -F /etc/selinux/default/contexts/files/file_contexts /

say 'disk'
truncate -s 6G "$out/root.img"
mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 -d "$root" "$out/root.img"
rm -r "$root"
