#!/usr/bin/env bash
# A small Linux to cut the power of: Debian's kernel, busybox, and irisd with the libraries that it needs, as one initramfs.
#
#   guest.sh kernel              brings the kernel package into .tools/guest (70 MB, once) and prints that folder
#   guest.sh initramfs OUT IRISD writes the initramfs; in the guest IRISD runs on an ext4 disk (/dev/vda), http on 0.0.0.0:8080
#
# Needs qemu-system-x86_64, busybox, cpio, kmod (apt-get install qemu-system-x86 busybox-static cpio kmod) and, for the kernel, apt.
# The guest says on its serial console: `TOKEN <the admin's token>`, `READY`, and at its end `ENDED <exit code>`.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
home=$root/.tools/guest
modules=(virtio_pci virtio_blk virtio_net ext4)

work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

kernel() {
    if [ ! -e "$home/vmlinuz" ]; then
        local package version
        # The meta package names the newest; the cloud kernel has no such modules.
        package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1)
        [ -n "$package" ] || { echo "guest.sh: apt knows no linux-image-amd64" >&2; exit 1; }
        version=${package#linux-image-}
        mkdir -p "$home/modules"
        work=$(mktemp -d "$home/.new.XXXXXX")
        echo "fetching $package" >&2
        (cd "$work" && apt-get download --quiet=2 -o APT::Sandbox::User=root "$package" >&2 && dpkg-deb -x ./*.deb .)
        depmod -b "$work" "$version"
        : >"$home/modules/order"
        for module in "${modules[@]}"; do
            modprobe -d "$work" -S "$version" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
        done | awk '!seen[$0]++' | while read -r file; do
            cp "$file" "$home/modules/"
            basename "$file" >>"$home/modules/order"
        done
        mv "$work/boot/vmlinuz-$version" "$home/vmlinuz" # last: it says that the rest is there
    fi
    echo "$home"
}

initramfs() {
    local out=$1 irisd=$2
    work=$(mktemp -d)
    mkdir -p "$work"/{bin,dev,proc,sys,tmp,disk,modules}
    cp "$(command -v busybox)" "$work/bin/busybox"
    cp "$home"/modules/* "$work/modules/"
    # Without its line tables: the guest's memory is small, and TCG is slow.
    strip -o "$work/bin/irisd" "$irisd"
    ldd "$irisd" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$work$(dirname "$library")"
        cp -L "$library" "$work$library"
    done
    cat >"$work/irisd.toml" <<'TOML'
[device]
id = "guest"
[paths]
state = "/disk/state"
weights = "/weights"
[http]
listen = "0.0.0.0:8080"
[queue]
crash_limit = 100
[quality]
mode = "report"
[segment]
model = "classical"
[inference]
threads = 1
[retention]
reserve = "4MiB"
[log]
level = "warn"
TOML
    cat >"$work/init" <<'SH'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "/modules/$module"; done </modules/order
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
if ! mount -t ext4 /dev/vda /disk; then
    echo "UNMOUNTABLE"
    poweroff -f
fi
rm -f /disk/state/endpoint # of the boot before: nobody listens there yet
(
    while ! [ -s /disk/state/local.token ] || ! [ -s /disk/state/endpoint ]; do usleep 50000; done
    echo "TOKEN $(cat /disk/state/local.token)"
) &
irisd run --config /irisd.toml >/dev/console 2>&1
echo "ENDED $?"
sync
poweroff -f
SH
    chmod +x "$work/init"
    # Not compressed: unpacking it in the guest would cost more than it saves.
    (cd "$work" && find . | cpio -o -H newc --quiet) >"$out"
}

case ${1:-} in
kernel) kernel ;;
initramfs) initramfs "$2" "$3" ;;
*)
    sed -n '2,/^set/p' "$0" | grep '^#' >&2
    exit 2
    ;;
esac
