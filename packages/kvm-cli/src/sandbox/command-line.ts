import { AGENT_PATH } from "./boot-archive.ts";

/** What a guest that lives for one command has no use for, by the function that would set it up. */
const LEFT_OUT: readonly string[] = [
	// The first of these reads the kernel's whole type information, for BPF programs to call kernel functions.
	"cubictcp_register",
	"bpf_rstat_kfunc_init",
	"bpf_key_sig_kfuncs_init",
	"kfunc_init",
	"bpf_prog_test_run_init",
	"bpf_tcp_ca_kfunc_init",
	// Self-tests.
	"crypto_kdf108_init",
	"blake2s_mod_init",
	// A file in /sys for every cache, and in tracefs for every event.
	"slab_sysfs_init",
	"tracer_init_tracefs",
	"init_graph_tracefs",
	"init_kprobe_trace",
	// Keyboard, TPM, encrypted keys.
	"i8042_init",
	"init_tis",
	"init_encrypted",
];

/** What every sandbox's kernel is told, besides where the agent and its port are. */
const WORDS: readonly string[] = [
	"console=ttyS0",
	"quiet",
	"panic=-1",
	// Self-tests of its ciphers take it longer than all the rest of its start.
	"cryptomgr.notests",
	// The software engine never speculates, and a guest's memory is its own and zero.
	"mitigations=off",
	"init_on_alloc=0",
	// Clock and interrupts are what they say they are.
	"tsc=reliable",
	"no_timer_check",
	"nowatchdog",
	"rcupdate.rcu_expedited=1",
	"8250.nr_uarts=1",
	"audit=0",
	"apparmor=0",
	"selinux=0",
	`initcall_blacklist=${LEFT_OUT.join(",")}`,
];

/**
 * The command line of a sandbox's kernel: as short a start as it can have. The agent's port is the first port of the first
 * virtio device.
 */
export function kernelCommandLine(append: string | undefined): string {
	return [...WORDS, `rdinit=${AGENT_PATH}`, ...(append === undefined ? [] : [append]), "--", "/dev/vport0p0"].join(" ");
}
