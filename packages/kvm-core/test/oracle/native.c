/*
 * Runs machine code on the CPU this process runs on and reports what it did.
 *
 * Batches come in on stdin and results go out on stdout; both formats are described in protocol.ts. A case starts by
 * rewriting the context of a signal frame and ends in a fault or an int3, whose frame holds everything there is to
 * know. The next case starts from that same frame, so that a case costs one signal and one sigreturn.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

enum {
	REGION = 0x10000000,
	CODE = REGION + 0x1000,
	CODE_SIZE = 0x2000,
	DATA = REGION + 0x8000,
	DATA_SIZE = 0x2000,
	FS_BASE = DATA + 0x400,
	GS_BASE = DATA + 0x1400,
	CODE_MAX = 72,
	MAGIC = 0x3143524f,
	/* Mode 32 in a code segment that ends behind the code pages. */
	LIMITED = 33,
	END_SYSCALL = 255,
	END_TIMEOUT = 254,
};

struct batch {
	uint32_t magic, count;
	uint8_t data[DATA_SIZE];
};

struct input {
	uint16_t mode, offset;
	uint8_t length, reserved[3];
	uint8_t code[CODE_MAX];
	uint64_t gpr[16];
	uint64_t rflags;
	uint8_t fx[512];
};

struct output {
	uint32_t trap, error;
	uint64_t cr2, rip, rflags, gpr[16];
	/* cs ss ds es fs gs */
	uint16_t selector[6];
	uint16_t dirty_offset, dirty_length;
	uint8_t fx[512];
};

/* The order in which x86 numbers its registers. */
static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
			      REG_R8,  REG_R9,	REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static struct batch batch;
static struct input *inputs;
static uint8_t *outputs, *output_end;
static uint8_t *code_alias;
static uint32_t capacity, current;
static volatile int running;
static uint32_t tick_case;
static int ticks;
static uint16_t last_offset;
static unsigned last_length;
static uint64_t host_fs, host_gs;
static gregset_t kick_gregs;
static uint8_t kick_fpu[512];

static void fail(const char *what)
{
	fprintf(stderr, "native oracle: %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline uint64_t rdfsbase(void) { uint64_t v; __asm__ volatile("rdfsbase %0" : "=r"(v)); return v; }
static inline uint64_t rdgsbase(void) { uint64_t v; __asm__ volatile("rdgsbase %0" : "=r"(v)); return v; }
static inline void wrfsbase(uint64_t v) { __asm__ volatile("wrfsbase %0" : : "r"(v)); }
static inline void wrgsbase(uint64_t v) { __asm__ volatile("wrgsbase %0" : : "r"(v)); }

#define GET_SEGMENT(name) ({ uint16_t v_; __asm__ volatile("mov %%" #name ", %0" : "=r"(v_)); v_; })
#define SET_SEGMENT(name, value) __asm__ volatile("mov %0, %%" #name : : "r"((unsigned)(value)))

/* Both pages compared eight bytes at a time: this is most of what the handler does. */
static void find_dirty(unsigned *start, unsigned *length)
{
	const uint64_t *now = (const uint64_t *)DATA, *then = (const uint64_t *)batch.data;
	unsigned low = 0, high = DATA_SIZE / 8;
	if (memcmp(now, then, DATA_SIZE) == 0) {
		*start = *length = 0;
		return;
	}
	while (now[low] == then[low]) low++;
	while (now[high - 1] == then[high - 1]) high--;
	*start = low * 8;
	*length = (high - low) * 8;
}

static void record(ucontext_t *uc, uint32_t trap, const uint16_t selectors[4])
{
	const greg_t *g = uc->uc_mcontext.gregs;
	struct output *out = (struct output *)output_end;
	unsigned start, length;
	out->trap = trap;
	out->error = g[REG_ERR];
	out->cr2 = g[REG_CR2];
	out->rip = g[REG_RIP];
	out->rflags = g[REG_EFL];
	for (int i = 0; i < 16; i++) out->gpr[i] = g[order[i]];
	out->selector[0] = g[REG_CSGSFS];
	out->selector[1] = (uint64_t)g[REG_CSGSFS] >> 48;
	memcpy(out->selector + 2, selectors, 8);
	memcpy(out->fx, uc->uc_mcontext.fpregs, 512);
	find_dirty(&start, &length);
	out->dirty_offset = start;
	out->dirty_length = length;
	memcpy(out + 1, (uint8_t *)(uintptr_t)DATA + start, length);
	memcpy((uint8_t *)(uintptr_t)DATA + start, batch.data + start, length);
	output_end += sizeof *out + length;
}

static void load(ucontext_t *uc, const struct input *in)
{
	greg_t *g = uc->uc_mcontext.gregs;
	uint16_t cs, ss, ds;
	memset(code_alias + last_offset, 0xcc, last_length);
	memcpy(code_alias + in->offset, in->code, in->length);
	last_offset = in->offset;
	last_length = in->length;
	for (int i = 0; i < 16; i++) g[order[i]] = in->gpr[i];
	g[REG_EFL] = in->rflags;
	switch (in->mode) {
	case 64:
		cs = 0x33, ss = 0x2b, ds = 0;
		g[REG_RIP] = CODE + in->offset;
		break;
	case 32:
	case LIMITED:
		cs = in->mode == LIMITED ? 0x47 : 0x23, ss = 0x2b, ds = 0x2b;
		g[REG_RIP] = CODE + in->offset;
		break;
	default:
		cs = 0x07, ss = 0x0f, ds = 0x0f;
		g[REG_RIP] = CODE - REGION + in->offset;
	}
	g[REG_CSGSFS] = cs | (uint64_t)ss << 48;
	/* UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS: the kernel takes ss from the frame as it stands there. */
	uc->uc_flags |= 6;
	memcpy(uc->uc_mcontext.fpregs, in->fx, 464);
	/* XSTATE_BV: x87 and SSE from the area above, all else as after reset. */
	*(uint64_t *)((uint8_t *)uc->uc_mcontext.fpregs + 512) = 3;
	SET_SEGMENT(ds, ds);
	SET_SEGMENT(es, ds);
	/* 32-bit code gets segments of its own there; null selectors keep 64-bit code's bases. */
	SET_SEGMENT(fs, in->mode == 64 ? 0 : 0x17);
	SET_SEGMENT(gs, in->mode == 64 ? 0 : 0x1f);
	if (in->mode == 64) {
		wrfsbase(FS_BASE);
		wrgsbase(GS_BASE);
	}
}

/* Returns the flags that sigreturn does not restore from the frame: NT, AC and ID come from the caller of it. */
__attribute__((used)) static uint64_t on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;
	const uint16_t selectors[4] = {GET_SEGMENT(ds), GET_SEGMENT(es), GET_SEGMENT(fs), GET_SEGMENT(gs)};
	uint32_t trap = g[REG_TRAPNO];
	(void)info;
	if (sig == SIGALRM) {
		if (!running) return 2;
		if (tick_case != current) {
			tick_case = current;
			ticks = 0;
		}
		if (++ticks < 3) return g[REG_EFL];
		trap = END_TIMEOUT;
	}
	if (sig == SIGSYS) trap = END_SYSCALL;
	if (!running) {
		if (sig != SIGUSR1) _exit(3);
		memcpy(kick_gregs, g, sizeof kick_gregs);
		memcpy(kick_fpu, uc->uc_mcontext.fpregs, 512);
		running = 1;
		current = 0;
		tick_case = ~0u;
	} else {
		record(uc, trap, selectors);
		current++;
	}
	if (current == batch.count) {
		running = 0;
		SET_SEGMENT(ds, 0);
		SET_SEGMENT(es, 0);
		SET_SEGMENT(fs, 0);
		SET_SEGMENT(gs, 0);
		wrfsbase(host_fs);
		wrgsbase(host_gs);
		memcpy(g, kick_gregs, sizeof kick_gregs);
		memcpy(uc->uc_mcontext.fpregs, kick_fpu, 464);
		return 2;
	}
	load(uc, &inputs[current]);
	return inputs[current].rflags;
}

void entry(void);
__asm__(".text\n"
	"entry:\n"
	"	pushq $2\n"
	"	popfq\n"
	"	subq $8, %rsp\n"
	"	call on_signal\n"
	"	addq $8, %rsp\n"
	"	andl $0x244000, %eax\n"
	"	orl $2, %eax\n"
	"	pushq %rax\n"
	"	popfq\n"
	"	ret\n");

static void read_all(void *to, size_t length, int may_end)
{
	uint8_t *p = to;
	size_t done = 0;
	while (done < length) {
		ssize_t n = read(0, p + done, length - done);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0) fail("read");
		if (n == 0) {
			if (may_end && done == 0) exit(0);
			errno = EPIPE;
			fail("batch cut short");
		}
		done += n;
	}
}

static void write_all(const void *from, size_t length)
{
	const uint8_t *p = from;
	while (length > 0) {
		ssize_t n = write(1, p, length);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0) fail("write");
		p += n;
		length -= n;
	}
}

static void map(void)
{
	int fd = memfd_create("code", 0);
	if (fd < 0 || ftruncate(fd, CODE_SIZE) < 0) fail("memfd");
	code_alias = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (code_alias == MAP_FAILED) fail("mmap");
	memset(code_alias, 0xcc, CODE_SIZE);
	if (mmap((void *)CODE, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != (void *)CODE)
		fail("mmap of the code pages");
	if (mmap((void *)DATA, DATA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) !=
	    (void *)DATA)
		fail("mmap of the data pages");
}

/* The same descriptors as LDT in guest.ts. contents: 0 data, 1 expand-down, 2 code. */
static int make_ldt(void)
{
	static const struct user_desc ldt[] = {
		{.entry_number = 0, .base_addr = REGION, .limit = 0xffff, .contents = 2, .useable = 1},
		{.entry_number = 1, .base_addr = REGION, .limit = 0xffff, .contents = 0, .useable = 1},
		{.entry_number = 2, .base_addr = FS_BASE, .limit = 0x7ff, .seg_32bit = 1, .useable = 1},
		{.entry_number = 3, .base_addr = DATA, .limit = 0xfff, .contents = 1, .useable = 1},
		{.entry_number = 4, .base_addr = DATA, .limit = 0x1, .seg_32bit = 1, .limit_in_pages = 1, .read_exec_only = 1},
		{.entry_number = 5, .base_addr = DATA, .limit = 0xfff, .seg_32bit = 1, .seg_not_present = 1},
		{.entry_number = 6, .base_addr = 0, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .contents = 2, .read_exec_only = 1, .useable = 1},
		{.entry_number = 7, .base_addr = 0, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .contents = 2, .seg_not_present = 1},
		{.entry_number = 8, .base_addr = 0, .limit = (CODE + CODE_SIZE - 1) >> 12, .seg_32bit = 1, .limit_in_pages = 1, .contents = 2, .useable = 1},
	};
	for (unsigned i = 0; i < sizeof ldt / sizeof *ldt; i++) {
		/* 0x11 writes in the new form; user_desc's present bit is inverted. */
		if (syscall(SYS_modify_ldt, 0x11, &ldt[i], sizeof ldt[i]) != 0) return 0;
	}
	return 1;
}

/* System calls of the code under test must not reach the kernel. */
static void confine(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		fail("seccomp");
}

static void catch_signals(void)
{
	static const int signals[] = {SIGUSR1, SIGTRAP, SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS, SIGALRM};
	size_t size = 1 << 18;
	stack_t stack = {.ss_sp = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = size};
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL) < 0) fail("sigaltstack");
	action.sa_sigaction = (void (*)(int, siginfo_t *, void *))(uintptr_t)entry;
	sigfillset(&action.sa_mask);
	for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
		if (sigaction(signals[i], &action, NULL) < 0) fail("sigaction");
}

static void set_timer(int on)
{
	struct itimerval timer = {.it_interval = {0, on ? 10000 : 0}, .it_value = {0, on ? 10000 : 0}};
	if (setitimer(ITIMER_REAL, &timer, NULL) < 0) fail("setitimer");
}

int main(void)
{
	uint32_t hello[4] = {MAGIC, sizeof(struct input), sizeof(struct output), 0};
	unsigned a, b, c, d;
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1)) {
		errno = ENOTSUP;
		fail("fsgsbase");
	}
	/* LSL of Linux's per-CPU descriptor tells the CPU's number: 0 in guest.ts as well. */
	cpu_set_t first;
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof first, &first);
	map();
	/* Bit 0: 16-bit segments are to be had. Bit 1: CPUID.7.ECX.OSPKE, protection keys are on. */
	hello[3] = make_ldt() | (c >> 4 & 1) << 1;
	catch_signals();
	confine();
	host_fs = rdfsbase();
	host_gs = rdgsbase();
	write_all(hello, sizeof hello);
	for (;;) {
		read_all(&batch, sizeof batch, 1);
		if (batch.magic != MAGIC) {
			errno = EPROTO;
			fail("batch");
		}
		if (batch.count > capacity) {
			capacity = batch.count;
			inputs = realloc(inputs, capacity * sizeof *inputs);
			outputs = realloc(outputs, capacity * (sizeof(struct output) + DATA_SIZE));
			if (!inputs || !outputs) fail("memory");
		}
		read_all(inputs, batch.count * sizeof *inputs, 0);
		memcpy((void *)DATA, batch.data, DATA_SIZE);
		output_end = outputs;
		if (batch.count > 0) {
			set_timer(1);
			raise(SIGUSR1);
			/* To the compiler raise() is a leaf function: tell it that all may have changed. */
			__asm__ volatile("" : : : "memory");
			set_timer(0);
		}
		uint64_t length = output_end - outputs;
		write_all(&length, sizeof length);
		write_all(outputs, length);
	}
}
