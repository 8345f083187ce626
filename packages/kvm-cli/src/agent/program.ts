/**
 * The agent that runs in every guest, in the language of `language/`: words of 64 bits, functions, `while` and `if`;
 * `u32[address]` is memory, a variable with a record's name has its members, `syscall(number, …)` is the kernel.
 *
 * Started by the kernel as /init, with the path of the port as its argument, it is process 1: it mounts /dev, loads the
 * modules that /xkvm/modules lists, and then serves the host's frames (`protocol.ts` describes them) until the host closes the port;
 * then the machine is switched off. Started without arguments it serves standard input and ends with it: that is how it
 * is tested.
 *
 * The host is trusted; the agent only has to survive what it says. All memory is in the buffers declared here. Everything
 * that waits is bounded by credit: the host says how much output it takes, the agent how much input.
 */
export const AGENT_SOURCE: string = `
const SYS_read = 0; const SYS_write = 1; const SYS_open = 2; const SYS_close = 3;
const SYS_rt_sigprocmask = 14; const SYS_ioctl = 16; const SYS_dup2 = 33; const SYS_nanosleep = 35; const SYS_getpid = 39;
const SYS_vfork = 58; const SYS_execve = 59; const SYS_exit = 60; const SYS_wait4 = 61; const SYS_kill = 62;
const SYS_fcntl = 72; const SYS_chdir = 80; const SYS_mkdir = 83; const SYS_setuid = 105; const SYS_setgid = 106;
const SYS_setsid = 112; const SYS_setgroups = 116; const SYS_sync = 162; const SYS_mount = 165; const SYS_reboot = 169;
const SYS_epoll_wait = 232; const SYS_epoll_ctl = 233; const SYS_signalfd4 = 289; const SYS_epoll_create1 = 291;
const SYS_pipe2 = 293; const SYS_finit_module = 313;

const ENOENT = 2; const EINTR = 4; const EAGAIN = 11; const EBUSY = 16; const EINVAL = 22; const E2BIG = 7; const ESRCH = 3;
const O_RDWR = 2; const O_NOCTTY = 0x100; const O_NONBLOCK = 0x800; const O_CLOEXEC = 0x80000;
const F_DUPFD_CLOEXEC = 1030; const F_SETFL = 4;
const EPOLL_ADD = 1; const EPOLL_DEL = 2; const EPOLLIN = 1; const EPOLLOUT = 4;
const SIGKILL = 9; const SIGCHLD = 17; const SIG_SETMASK = 2; const WNOHANG = 1;
const TIOCSCTTY = 0x540e; const TIOCSWINSZ = 0x5414; const TIOCSPTLCK = 0x40045431; const TIOCGPTPEER = 0x5441;
const REBOOT_1 = 0xfee1dead; const REBOOT_2 = 672274793; const POWER_OFF = 0x4321fedc;

// Frames.
const VERSION = 1;
const HEADER = 8;
const SPAWN = 1; const INPUT = 2; const END_INPUT = 3; const CREDIT = 4; const SIGNAL = 5; const RESIZE = 6; const RELEASE = 7; const CALL = 8;
const HELLO = 16; const STARTED = 17; const FAILED = 18; const OUTPUT = 20; const ENDED = 22; const GRANT = 24;
const EXITED = 25; const RELEASED = 26; const RESULT = 27; const REFUSED = 28;

const CHANNELS = 128;
const LARGEST = 262144;
const CHUNK = 32768;
const WINDOW = 32768;
const POINTERS = 4096;
const MOST_CREDIT = 1048576;

// Keys of the epoll set that are no stream's.
const PORT_KEY = 65536;
const CHILD_KEY = 65537;

record Stream {
	fd: i32;
	watched: u32;
	credit: u32;
	drained: u32;
}

record Process {
	used: u32;
	pid: i32;
	ended: u32;
	status: u32;
	told: u32;
	terminal: u32;
	inputStart: u32;
	inputEnd: u32;
	inputEnding: u32;
	reserved: u32;
	streams: bytes[3 * sizeof(Stream)];
}

record Spawn {
	flags: u32;
	uid: u32;
	gid: u32;
	rows: u16;
	columns: u16;
	credit: u32;
	candidates: u16;
	arguments: u16;
	variables: u16;
	reserved: u16;
	texts: bytes[1];
}
const SPAWN_TEXTS = 28;
const SPAWN_TERMINAL = 1;
const SPAWN_DEVICE = 2;

record Call {
	number: u32;
	output: u32;
	kinds: bytes[8];
	arguments: bytes[48];
	input: bytes[1];
}
const CALL_INPUT = 64;
const KIND_INPUT = 1;
const KIND_OUTPUT = 2;

buffer processes[128 * sizeof(Process)];
buffer inputs[128 * 32768];
buffer received[8 + 262144];
buffer sent[8 + 65536];
buffer pointers[4200 * 8];
buffer events[64 * 12];
buffer event[16];
buffer words[128];
buffer noSignals[8];
buffer allSignals[8];

var port;
var epoll;
var children;
var have;
var greeted;
// The type of the frame that is being answered.
var serving;
var spawnError;
var spawnStage;

fn min(a, b) {
	if (a < b) { return a; }
	return b;
}

fn close(fd) {
	if (fd >= 0) { syscall(SYS_close, fd); }
}

fn stop() {
	if (syscall(SYS_getpid) == 1) {
		syscall(SYS_kill, -1, SIGKILL);
		syscall(SYS_sync);
		syscall(SYS_reboot, REBOOT_1, REBOOT_2, POWER_OFF, 0);
	}
	syscall(SYS_exit, 0);
}

fn pause(nanoseconds) {
	u64[words] = 0;
	u64[words + 8] = nanoseconds;
	syscall(SYS_nanosleep, words, 0);
}

// Sends the frame whose payload is in the buffer already. The host always reads, so this may wait.
fn send(channel, type, length) {
	u16[sent] = channel;
	u8[sent + 2] = type;
	u8[sent + 3] = 0;
	u32[sent + 4] = length;
	let at = sent;
	let end = sent + HEADER + length;
	while (at < end) {
		let n = syscall(SYS_write, port, at, end - at);
		if (n > 0) { at = at + n; }
		else if (n == -EAGAIN) { pause(1000000); }
		else if (n != -EINTR) { stop(); }
	}
}

fn sendWord(channel, type, word) {
	u32[sent + HEADER] = word;
	send(channel, type, 4);
}

fn refuse(channel, error) {
	u32[sent + HEADER + 4] = serving;
	u32[sent + HEADER] = error;
	send(channel, REFUSED, 8);
}

fn process(channel) {
	return processes + channel * sizeof(Process);
}

fn stream(channel, which) {
	let p: Process = process(channel);
	return p.streams + which * sizeof(Stream);
}

fn watch(channel, which, wanted) {
	let s: Stream = stream(channel, which);
	if (s.fd < 0 || s.watched == wanted) { return; }
	u32[event] = EPOLLIN;
	if (which == 0) { u32[event] = EPOLLOUT; }
	u64[event + 4] = channel * 4 + which;
	let operation = EPOLL_DEL;
	if (wanted) { operation = EPOLL_ADD; }
	syscall(SYS_epoll_ctl, epoll, operation, s.fd, event);
	s.watched = wanted;
}

fn closeStream(channel, which) {
	let s: Stream = stream(channel, which);
	watch(channel, which, 0);
	close(s.fd);
	s.fd = -1;
}

// The exit is told when all that was written before it has been sent.
fn settle(channel) {
	let p: Process = process(channel);
	let out: Stream = stream(channel, 1);
	let err: Stream = stream(channel, 2);
	if (p.ended && !p.told && (out.fd < 0 || out.drained) && (err.fd < 0 || err.drained)) {
		p.told = 1;
		sendWord(channel, EXITED, p.status);
	}
}

// Carries a process's output as far as the host's credit goes.
fn pumpOutput(channel, which) {
	let p: Process = process(channel);
	let s: Stream = stream(channel, which);
	s.drained = 0;
	while (s.fd >= 0 && s.credit > 0 && !s.drained) {
		let n = syscall(SYS_read, s.fd, sent + HEADER, min(s.credit, CHUNK));
		if (n > 0) {
			s.credit = s.credit - n;
			send(channel, OUTPUT + which - 1, n);
			// A process that still runs has its turn after the others'.
			if (!p.ended) { break; }
		} else if (n == -EAGAIN) { s.drained = 1; }
		else if (n != -EINTR) {
			closeStream(channel, which);
			send(channel, ENDED + which - 1, 0);
		}
	}
	watch(channel, which, s.credit > 0);
	settle(channel);
}

// Carries input into a process as far as it takes it, and lets the host send as much again.
fn pumpInput(channel) {
	let p: Process = process(channel);
	let s: Stream = stream(channel, 0);
	let base = inputs + channel * WINDOW;
	let granted = 0;
	while (p.inputStart < p.inputEnd) {
		let size = p.inputEnd - p.inputStart;
		let n = -EINVAL;
		if (s.fd >= 0) { n = syscall(SYS_write, s.fd, base + p.inputStart, size); }
		if (n == -EAGAIN) { break; }
		if (n != -EINTR) {
			if (n < 0) {
				closeStream(channel, 0);
				n = size;
			}
			p.inputStart = p.inputStart + n;
			granted = granted + n;
		}
	}
	let waiting = p.inputStart < p.inputEnd;
	if (!waiting) {
		p.inputStart = 0;
		p.inputEnd = 0;
		if (p.inputEnding) { closeStream(channel, 0); }
	}
	watch(channel, 0, waiting);
	if (granted) { sendWord(channel, GRANT, granted); }
}

fn onInput(channel, data, length) {
	let p: Process = process(channel);
	let base = inputs + channel * WINDOW;
	let waiting = p.inputEnd - p.inputStart;
	if (!p.used || p.inputEnding || waiting + length > WINDOW) { refuse(channel, EINVAL); return; }
	if (p.inputEnd + length > WINDOW) {
		copy(base, base + p.inputStart, waiting);
		p.inputStart = 0;
		p.inputEnd = waiting;
	}
	copy(base + p.inputEnd, data, length);
	p.inputEnd = p.inputEnd + length;
	pumpInput(channel);
}

// Notes the addresses of texts that follow each other; gives where they end, or 0 when they go beyond.
fn takeTexts(at, end, count, table) {
	while (count > 0) {
		u64[table] = at;
		table = table + 8;
		while (at < end && u8[at]) { at = at + 1; }
		if (at >= end) { return 0; }
		at = at + 1;
		count = count - 1;
	}
	u64[table] = 0;
	return at;
}

fn failSpawn(stage, error) {
	spawnStage = stage;
	spawnError = error;
	syscall(SYS_exit, 127);
}

// Runs in the child, which shares this memory until it executes the program.
fn child(spawn: Spawn, in, out, err, terminal, directory, candidates, arguments, variables) {
	syscall(SYS_setsid);
	if (terminal) {
		let attached = syscall(SYS_ioctl, in, TIOCSCTTY, 1);
		if (attached < 0) { failSpawn(1, -attached); }
	}
	syscall(SYS_dup2, in, 0);
	syscall(SYS_dup2, out, 1);
	syscall(SYS_dup2, err, 2);
	if (spawn.uid || spawn.gid) {
		syscall(SYS_setgroups, 0, 0);
		let changed = syscall(SYS_setgid, spawn.gid);
		if (changed == 0) { changed = syscall(SYS_setuid, spawn.uid); }
		if (changed < 0) { failSpawn(2, -changed); }
	}
	let moved = syscall(SYS_chdir, directory);
	if (moved < 0) { failSpawn(3, -moved); }
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, noSignals, 0, 8);
	let error = ENOENT;
	while (u64[candidates]) {
		let failed = -syscall(SYS_execve, u64[candidates], arguments, variables);
		// What is there but cannot be executed says more than what is missing elsewhere.
		if (failed != ENOENT && failed != 20) { error = failed; if (failed != 13) { failSpawn(4, error); } }
		candidates = candidates + 8;
	}
	failSpawn(4, error);
}

fn onSpawn(channel, data, length) {
	let spawn: Spawn = data;
	let p: Process = process(channel);
	if (p.used) { refuse(channel, EBUSY); return; }
	if (length < SPAWN_TEXTS || spawn.arguments == 0 || spawn.candidates == 0) { refuse(channel, EINVAL); return; }
	if (spawn.candidates + spawn.arguments + spawn.variables > POINTERS) { refuse(channel, E2BIG); return; }
	let end = data + length;
	let place = takeTexts(data + SPAWN_TEXTS, end, 2, pointers);
	let candidates = pointers + 24;
	if (place) { place = takeTexts(place, end, spawn.candidates, candidates); }
	let arguments = candidates + (spawn.candidates + 1) * 8;
	if (place) { place = takeTexts(place, end, spawn.arguments, arguments); }
	let variables = arguments + (spawn.arguments + 1) * 8;
	if (place) { place = takeTexts(place, end, spawn.variables, variables); }
	if (!place) { refuse(channel, EINVAL); return; }

	clear(p, sizeof(Process));
	let input: Stream = stream(channel, 0);
	let output: Stream = stream(channel, 1);
	let error: Stream = stream(channel, 2);
	input.fd = -1;
	output.fd = -1;
	error.fd = -1;
	let in = -1;
	let out = -1;
	let err = -1;
	let problem = 0;
	if (spawn.flags & SPAWN_DEVICE) {
		in = syscall(SYS_open, u64[pointers + 8], O_RDWR + O_NOCTTY + O_CLOEXEC, 0);
		if (in < 0) { problem = -in; }
		out = in;
		err = in;
	} else if (spawn.flags & SPAWN_TERMINAL) {
		input.fd = syscall(SYS_open, "/dev/ptmx", O_RDWR + O_NOCTTY + O_NONBLOCK + O_CLOEXEC, 0);
		if (input.fd < 0) { problem = -input.fd; }
		else {
			u32[words] = 0;
			syscall(SYS_ioctl, input.fd, TIOCSPTLCK, words);
			u16[words] = spawn.rows;
			u16[words + 2] = spawn.columns;
			u32[words + 4] = 0;
			syscall(SYS_ioctl, input.fd, TIOCSWINSZ, words);
			in = syscall(SYS_ioctl, input.fd, TIOCGPTPEER, O_RDWR + O_NOCTTY + O_CLOEXEC);
			output.fd = syscall(SYS_fcntl, input.fd, F_DUPFD_CLOEXEC, 3);
			out = in;
			err = in;
			if (in < 0) { problem = -in; }
			else if (output.fd < 0) { problem = -output.fd; }
		}
	} else {
		let made = syscall(SYS_pipe2, words, O_CLOEXEC);
		if (made == 0) {
			in = i32[words];
			input.fd = i32[words + 4];
			made = syscall(SYS_pipe2, words, O_CLOEXEC);
		}
		if (made == 0) {
			output.fd = i32[words];
			out = i32[words + 4];
			made = syscall(SYS_pipe2, words, O_CLOEXEC);
		}
		if (made == 0) {
			error.fd = i32[words];
			err = i32[words + 4];
			syscall(SYS_fcntl, input.fd, F_SETFL, O_NONBLOCK);
			syscall(SYS_fcntl, output.fd, F_SETFL, O_NONBLOCK);
			syscall(SYS_fcntl, error.fd, F_SETFL, O_NONBLOCK);
		}
		problem = -made;
	}
	let pid = 0;
	spawnError = problem;
	spawnStage = 1;
	if (!problem) {
		pid = syscall(SYS_vfork);
		if (pid == 0) {
			child(spawn, in, out, err, spawn.flags & (SPAWN_TERMINAL + SPAWN_DEVICE), u64[pointers], candidates, arguments, variables);
		}
		if (pid < 0) { spawnError = -pid; }
	}
	close(in);
	if (out != in) { close(out); close(err); }
	if (spawnError) {
		if (pid > 0) { syscall(SYS_wait4, pid, 0, 0, 0); }
		close(input.fd);
		close(output.fd);
		close(error.fd);
		u32[sent + HEADER + 4] = spawnStage;
		u32[sent + HEADER] = spawnError;
		send(channel, FAILED, 8);
		return;
	}
	p.used = 1;
	p.pid = pid;
	p.terminal = spawn.flags & SPAWN_TERMINAL;
	output.credit = min(spawn.credit, MOST_CREDIT);
	error.credit = output.credit;
	sendWord(channel, STARTED, pid);
	watch(channel, 1, output.credit > 0);
	watch(channel, 2, error.credit > 0);
}

fn onCredit(channel, data, length) {
	let p: Process = process(channel);
	if (!p.used || length != 8 || u32[data] < 1 || u32[data] > 2) { refuse(channel, EINVAL); return; }
	let which = u32[data];
	let s: Stream = stream(channel, which);
	s.credit = min(s.credit + u32[data + 4], MOST_CREDIT);
	if (s.fd >= 0) { pumpOutput(channel, which); }
}

fn onSignal(channel, data, length) {
	let p: Process = process(channel);
	if (!p.used || length != 4) { refuse(channel, EINVAL); return; }
	// The number of a process that has been waited for may be another's.
	if (p.ended) { return; }
	let result = syscall(SYS_kill, -p.pid, u32[data]);
	if (result < 0 && result != -ESRCH) { refuse(channel, -result); }
}

fn onResize(channel, data, length) {
	let p: Process = process(channel);
	let s: Stream = stream(channel, 0);
	if (!p.used || !p.terminal || length != 4) { refuse(channel, EINVAL); return; }
	u16[words] = u16[data];
	u16[words + 2] = u16[data + 2];
	u32[words + 4] = 0;
	if (s.fd >= 0) { syscall(SYS_ioctl, s.fd, TIOCSWINSZ, words); }
}

fn onRelease(channel) {
	let p: Process = process(channel);
	if (!p.used || !p.told) { refuse(channel, EINVAL); return; }
	closeStream(channel, 0);
	closeStream(channel, 1);
	closeStream(channel, 2);
	p.used = 0;
	send(channel, RELEASED, 0);
}

// A system call of the host's making: each argument is a value, or an offset into the bytes that came or that go back.
fn onCall(channel, data, length) {
	let call: Call = data;
	if (length < CALL_INPUT || call.output > 65536 - 8) { refuse(channel, EINVAL); return; }
	let kinds = call.kinds;
	let arguments = call.arguments;
	let i = 0;
	while (i < 6) {
		let kind = u8[kinds + i];
		let value = u64[arguments + 8 * i];
		if (kind == KIND_INPUT) {
			if (value < 0 || value > length - CALL_INPUT) { refuse(channel, EINVAL); return; }
			value = value + data + CALL_INPUT;
		} else if (kind == KIND_OUTPUT) {
			if (value < 0 || value > call.output) { refuse(channel, EINVAL); return; }
			value = value + sent + HEADER + 8;
		}
		u64[words + 8 * i] = value;
		i = i + 1;
	}
	clear(sent + HEADER, 8 + call.output);
	let result = syscall(call.number, u64[words], u64[words + 8], u64[words + 16], u64[words + 24], u64[words + 32], u64[words + 40]);
	u64[sent + HEADER] = result;
	send(channel, RESULT, 8 + call.output);
}

fn onFrame(channel, type, data, length) {
	serving = type;
	if (type == CALL) { onCall(channel, data, length); return; }
	if (channel >= CHANNELS) { refuse(channel, EINVAL); return; }
	if (type == INPUT) { onInput(channel, data, length); }
	else if (type == CREDIT) { onCredit(channel, data, length); }
	else if (type == SPAWN) { onSpawn(channel, data, length); }
	else if (type == END_INPUT) {
		let p: Process = process(channel);
		if (!p.used) { refuse(channel, EINVAL); return; }
		p.inputEnding = 1;
		pumpInput(channel);
	}
	else if (type == SIGNAL) { onSignal(channel, data, length); }
	else if (type == RESIZE) { onResize(channel, data, length); }
	else if (type == RELEASE) { onRelease(channel); }
	else { refuse(channel, EINVAL); }
}

fn onPort() {
	let n = syscall(SYS_read, port, received + have, HEADER + LARGEST - have);
	if (n == -EINTR || n == -EAGAIN) { return; }
	if (n <= 0) {
		// A port that the host has not opened yet looks like one it has closed.
		if (greeted) { stop(); }
		pause(1000000);
		return;
	}
	greeted = 1;
	have = have + n;
	let at = received;
	let end = received + have;
	while (end - at >= HEADER) {
		let length = u32[at + 4];
		if (length > LARGEST) { serving = u8[at + 2]; refuse(u16[at], E2BIG); stop(); }
		if (end - at < HEADER + length) { break; }
		onFrame(u16[at], u8[at + 2], at + HEADER, length);
		at = at + HEADER + length;
	}
	have = end - at;
	if (at != received) { copy(received, at, have); }
}

// Waits for every child that has ended, its own or one whose parent has gone.
fn reap() {
	while (syscall(SYS_read, children, words, 128) > 0) { }
	while (1) {
		let pid = syscall(SYS_wait4, -1, words, WNOHANG, 0);
		if (pid <= 0) { return; }
		let status = u32[words];
		let channel = 0;
		while (channel < CHANNELS) {
			let p: Process = process(channel);
			if (p.used && !p.ended && p.pid == pid) {
				p.ended = 1;
				p.status = status;
				let out: Stream = stream(channel, 1);
				let err: Stream = stream(channel, 2);
				out.drained = 0;
				err.drained = 0;
				pumpOutput(channel, 1);
				pumpOutput(channel, 2);
			}
			channel = channel + 1;
		}
	}
}

fn loadModules() {
	let list = syscall(SYS_open, "/xkvm/modules", O_CLOEXEC, 0);
	if (list < 0) { return; }
	let n = syscall(SYS_read, list, received, LARGEST);
	close(list);
	if (n <= 0) { return; }
	let at = received;
	let end = received + n;
	let start = at;
	while (at < end) {
		if (u8[at] == 10) {
			u8[at] = 0;
			let module = syscall(SYS_open, start, O_CLOEXEC, 0);
			if (module >= 0) { syscall(SYS_finit_module, module, "", 0); }
			close(module);
			start = at + 1;
		}
		at = at + 1;
	}
}

fn boot(path) {
	syscall(SYS_mkdir, "/dev", 493);
	syscall(SYS_mount, "devtmpfs", "/dev", "devtmpfs", 0, 0);
	loadModules();
	port = -ENOENT;
	while (port < 0) {
		port = syscall(SYS_open, path, O_RDWR + O_CLOEXEC, 0);
		if (port < 0) { pause(1000000); }
	}
}

fn main(stack) {
	u64[allSignals] = -1;
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, allSignals, 0, 8);
	if (u64[stack] > 1) { boot(u64[stack + 16]); }
	else { port = syscall(SYS_fcntl, 0, F_DUPFD_CLOEXEC, 3); }
	// 0, 1 and 2 are children's.
	let filler = syscall(SYS_open, "/dev/null", O_RDWR, 0);
	while (filler >= 0 && filler < 3) { filler = syscall(SYS_open, "/dev/null", O_RDWR, 0); }
	close(filler);
	epoll = syscall(SYS_epoll_create1, O_CLOEXEC);
	u64[words] = 1 << (SIGCHLD - 1);
	children = syscall(SYS_signalfd4, -1, words, 8, O_NONBLOCK + O_CLOEXEC);
	u32[event] = EPOLLIN;
	u64[event + 4] = PORT_KEY;
	syscall(SYS_epoll_ctl, epoll, EPOLL_ADD, port, event);
	u64[event + 4] = CHILD_KEY;
	syscall(SYS_epoll_ctl, epoll, EPOLL_ADD, children, event);
	u32[sent + HEADER] = VERSION;
	u32[sent + HEADER + 4] = CHANNELS;
	u32[sent + HEADER + 8] = WINDOW;
	send(0, HELLO, 12);
	while (1) {
		let count = syscall(SYS_epoll_wait, epoll, events, 64, -1);
		let i = 0;
		while (i < count) {
			let key = u64[events + 12 * i + 4];
			if (key == PORT_KEY) { onPort(); }
			else if (key == CHILD_KEY) { reap(); }
			else {
				let p: Process = process(key >> 2);
				// An event of this round may have closed what another one of it is about.
				if (p.used) {
					if ((key & 3) == 0) { pumpInput(key >> 2); }
					else { pumpOutput(key >> 2, key & 3); }
				}
			}
			i = i + 1;
		}
	}
}
`;
