import { ROOT_SWITCH } from "./root-switch.ts";

/**
 * The guest's /init. What the kernel does not know of its command line it hands to init as environment: XKVM_MARK is a
 * word to print at once, XKVM_ROWS and XKVM_COLS the terminal's size, and XKVM_PORTS says that there is a virtio console
 * with xkvm's ports. A second archive behind the image's own may bring /xkvm/command, a script to run over those ports
 * instead of a shell on the serial console. On xkvm.control the guest says "ready" or "exit CODE", the host "ROWS COLS".
 */
export const GUEST_INIT = `#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
if [ "$1" != switched ]; then
	[ -n "$XKVM_MARK" ] && echo "$XKVM_MARK"
	/bin/busybox mount -t devtmpfs devtmpfs /dev
	/bin/busybox --install -s /bin 2>/dev/null
	mkdir -p /dev/pts /dev/shm /proc /sys /run /tmp /root
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devpts devpts /dev/pts
	mount -t tmpfs tmpfs /run
	mount -t tmpfs tmpfs /tmp
	chmod 1777 /tmp
	ln -sf /proc/self/fd /dev/fd
	hostname xkvm
	while read -r module; do insmod "$module"; done </lib/modules/xkvm.order
fi
${ROOT_SWITCH}cd /root
finish() {
	sync
	umount -a -r 2>/dev/null
	poweroff -f
	sleep 60
}
port() {
	[ -n "$XKVM_PORTS" ] || return 1
	tries=0
	while [ $tries -lt 200 ]; do
		for entry in /sys/class/virtio-ports/*; do
			[ "$(cat "$entry/name" 2>/dev/null)" = "$1" ] && echo "/dev/\${entry##*/}" && return
		done
		tries=$((tries + 1))
		sleep 0.05
	done
	return 1
}
control=$(port xkvm.control)
if [ -f /xkvm/command ]; then
	sh /xkvm/command <"$(port xkvm.stdin)" >"$(port xkvm.stdout)" 2>"$(port xkvm.stderr)"
	echo "exit $?" >"$control"
	finish
fi
[ -f /xkvm/environment ] && . /xkvm/environment
export PS1='\\w # '
[ -n "$XKVM_ROWS" ] && stty rows "$XKVM_ROWS" cols "$XKVM_COLS" 2>/dev/null
if [ -n "$control" ]; then
	echo ready >"$control"
	while read -r rows cols; do stty -F /dev/console rows "$rows" cols "$cols"; done <"$control" 2>/dev/null &
fi
unset XKVM_MARK XKVM_ROWS XKVM_COLS
setsid cttyhack sh
finish
`;

/** Modules loaded at every start, in this order but for what they depend on; a kernel has some of them built in. */
export const BOOT_MODULES: readonly string[] = [
	"virtio_pci",
	"virtio_console",
	"virtio_blk",
	"virtio_rng",
	"crc32c_generic",
	"ext4",
];

/** Modules an image with its root on a disk loads besides. */
export const ROOT_MODULES: readonly string[] = ["squashfs", "overlay"];

/** Modules in the image that `modprobe` can load. */
export const EXTRA_MODULES: readonly string[] = [
	"virtio_net",
	"af_packet",
	"overlay",
	"fuse",
	"virtiofs",
	"9p",
	"9pnet_virtio",
	"vmw_vsock_virtio_transport",
	"squashfs",
	"erofs",
	"isofs",
	"vfat",
	"loop",
];

/** Where the files behind those names are in Debian's kernel packages; older ones have no /usr before it. */
export const MODULE_PATTERNS: readonly string[] = ["./lib/modules", "./usr/lib/modules"].flatMap((root) =>
	[
		"drivers/virtio/*",
		"drivers/block/virtio_blk.ko*",
		"drivers/block/loop.ko*",
		"drivers/char/virtio_console.ko*",
		"drivers/char/hw_random/*",
		"drivers/net/virtio_net.ko*",
		"drivers/net/net_failover.ko*",
		"drivers/cdrom/*",
		"net/core/*",
		"net/packet/*",
		"net/vmw_vsock/*",
		"net/9p/*",
		"fs/*",
		"lib/*",
		"crypto/*",
		"arch/x86/crypto/*",
	].map((path) => `${root}/*/kernel/${path}`),
);
