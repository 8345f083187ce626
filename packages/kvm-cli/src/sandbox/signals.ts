/** Linux's signals by number (signal(7), x86). */
const NAMES: readonly string[] = [
	"SIGHUP",
	"SIGINT",
	"SIGQUIT",
	"SIGILL",
	"SIGTRAP",
	"SIGABRT",
	"SIGBUS",
	"SIGFPE",
	"SIGKILL",
	"SIGUSR1",
	"SIGSEGV",
	"SIGUSR2",
	"SIGPIPE",
	"SIGALRM",
	"SIGTERM",
	"SIGSTKFLT",
	"SIGCHLD",
	"SIGCONT",
	"SIGSTOP",
	"SIGTSTP",
	"SIGTTIN",
	"SIGTTOU",
	"SIGURG",
	"SIGXCPU",
	"SIGXFSZ",
	"SIGVTALRM",
	"SIGPROF",
	"SIGWINCH",
	"SIGIO",
	"SIGPWR",
	"SIGSYS",
];

/** A signal's number, or undefined for a name Linux does not have. */
export function signalNumber(signal: string | number): number | undefined {
	if (typeof signal === "number") return Number.isInteger(signal) && signal > 0 && signal <= 64 ? signal : undefined;
	const index = NAMES.indexOf(signal);
	return index < 0 ? undefined : index + 1;
}

export function signalName(number: number): string {
	return NAMES[number - 1] ?? `SIG${number}`;
}
