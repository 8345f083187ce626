import type { Command, Option } from "commander";
import { CliError, EXIT } from "../exit.ts";
import type { CliIo } from "../io.ts";

interface Node {
	readonly path: string;
	readonly words: readonly string[];
}

function optionWords(options: readonly Option[]): string[] {
	return options
		.filter(({ hidden }) => !hidden)
		.flatMap(({ short, long }) => [short, long].filter((word) => word !== undefined));
}

/** Every command by its path, with the words that can follow it. */
function nodes(command: Command, path: string): Node[] {
	const words = [...command.commands.map((child) => child.name()), ...optionWords(command.options), "--help"];
	return [
		{ path, words: [...new Set(words)] },
		...command.commands.flatMap((child) => nodes(child, `${path} ${child.name()}`)),
	];
}

function bash(all: readonly Node[]): string {
	const cases = all.map(({ path, words }) => `\t\t"${path}") words="${words.join(" ")}" ;;`).join("\n");
	return `_xkvm() {
	local word path=xkvm words="" i
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=\${COMP_WORDS[i]}
		[[ $word == -- ]] && return
		case "$path $word" in
${all
	.slice(1)
	.map(({ path }) => `\t\t\t"${path}") path="${path}" ;;`)
	.join("\n")}
		esac
	done
	case "$path" in
${cases}
	esac
	COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _xkvm xkvm
`;
}

function zsh(all: readonly Node[]): string {
	return `autoload -U +X bashcompinit && bashcompinit\n${bash(all)}`;
}

function fish(all: readonly Node[]): string {
	return all
		.flatMap(({ path, words }) => {
			const parents = path.split(" ").slice(1);
			const condition =
				parents.length === 0
					? "__fish_use_subcommand"
					: parents.map((parent) => `__fish_seen_subcommand_from ${parent}`).join("; and ");
			return words.map((word) =>
				word.startsWith("--")
					? `complete -c xkvm -n '${condition}' -l ${word.slice(2)}`
					: word.startsWith("-")
						? `complete -c xkvm -n '${condition}' -s ${word.slice(1)}`
						: `complete -c xkvm -f -n '${condition}' -a ${word}`,
			);
		})
		.join("\n")
		.concat("\n");
}

const SHELLS: { readonly [shell: string]: (all: readonly Node[]) => string } = { bash, zsh, fish };

export function addCompletionCommand(program: Command, io: CliIo): void {
	program
		.command("completion")
		.description("print a shell's completion script")
		.argument("<shell>", "bash, zsh or fish")
		.action((shell: string) => {
			const script = SHELLS[shell];
			if (script === undefined)
				throw new CliError(EXIT.usage, "BAD_SHELL", `shell ${JSON.stringify(shell)}: expected bash, zsh or fish`);
			io.stdout.write(script(nodes(program, "xkvm")));
		});
}
