/** The serial number by which the guest knows the disk with its root; it is the last of its disks. */
export const ROOT_DISK_ID = "xkvm-root";

/** In an image's initrd: the format of the root file system that is on a disk of its own. */
export const ROOT_MARK = "xkvm/root";

/**
 * The part of /init that leaves the initramfs for a root file system on a disk: read-only below, a tmpfs above, so that
 * every start finds it as it was built. What one run brought in /xkvm comes along, and busybox with it as /xkvm/busybox,
 * whose applets stand behind all of the root's own programs.
 */
export const ROOT_SWITCH = `if [ -f /xkvm/root ] && [ "$1" != switched ]; then
	format=$(cat /xkvm/root)
	for disk in /sys/block/vd*; do
		[ "$(cat "$disk/serial")" = ${ROOT_DISK_ID} ] && root=/dev/\${disk##*/}
	done
	mkdir -p /mnt/below /mnt/above /mnt/root
	if ! mount -t "$format" -o ro "$root" /mnt/below; then
		echo "xkvm: cannot mount the root file system ($format on \${root:-no disk})"
		poweroff -f
		sleep 60
	fi
	mount -t tmpfs xkvm /mnt/above
	mkdir /mnt/above/data /mnt/above/work
	mount -t overlay -o lowerdir=/mnt/below,upperdir=/mnt/above/data,workdir=/mnt/above/work overlay /mnt/root
	cd /mnt/root
	mkdir -p xkvm dev proc sys run tmp mnt root etc bin usr/bin
	mount -t tmpfs xkvm xkvm
	cp -a /xkvm/. xkvm
	cp /bin/busybox xkvm/busybox
	cp "$0" xkvm/init
	[ -e bin/busybox ] || [ -h bin/busybox ] || ln -s /xkvm/busybox bin/busybox
	[ -e bin/sh ] || [ -h bin/sh ] || ln -s /xkvm/busybox bin/sh
	[ -e usr/bin/env ] || [ -h usr/bin/env ] || ln -s /xkvm/busybox usr/bin/env
	[ -e etc/passwd ] || echo root:x:0:0:root:/root:/bin/sh >etc/passwd
	[ -e etc/group ] || echo root:x:0: >etc/group
	for folder in dev proc sys run tmp; do mount --move /$folder $folder; done
	exec switch_root /mnt/root /xkvm/busybox sh /xkvm/init switched
fi
if [ "$1" = switched ]; then
	export PATH=$PATH:/xkvm/bin
	mkdir -p /xkvm/bin
	/xkvm/busybox --install -s /xkvm/bin
	mkdir -p /dev/pts /dev/shm
fi
`;
