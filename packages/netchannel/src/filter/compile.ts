import { FilterError } from "./errors.ts";
import { type FilterEnd, type FilterNode, parseFilter } from "./parse.ts";
import { BPF, type FilterInstruction, type FilterProgram, runFilter } from "./program.ts";

/** Options of {@link compileFilter}. */
export interface FilterOptions {
	/** @default "ethernet" */
	medium?: "ethernet" | "ip";
	/** Bytes to keep of what matches, for use in the kernel. @default 262144 */
	snapLength?: number;
}

/** Instructions the kernel takes at most (BPF_MAXINSNS). */
const MOST_INSTRUCTIONS = 4096;

/** A place to jump to; its number is known when the program is laid out. */
class Label {
	at = -1;
}

interface Draft {
	readonly code: number;
	readonly k: number;
	readonly yes?: Label;
	readonly no?: Label;
}

const IPV4 = 0x0800;
const ARP = 0x0806;
const IPV6 = 0x86dd;

/** Turns tests into jumps: every node is compiled with the place to go when it holds and when it does not. */
class Compiler {
	private readonly drafts: Draft[] = [];
	private readonly medium: "ethernet" | "ip";
	/** Byte offsets of the EtherType and the IP header; a `vlan` test moves them, as in pcap-filter(7). */
	private type = 12;
	testsVlan = false;
	private network: number;

	constructor(medium: "ethernet" | "ip") {
		this.medium = medium;
		this.network = medium === "ethernet" ? 14 : 0;
	}

	compile(node: FilterNode | undefined, snapLength: number): FilterInstruction[] {
		const yes = new Label();
		const no = new Label();
		if (node === undefined) this.jump(yes);
		else this.node(node, yes, no);
		this.place(yes);
		this.emit(BPF.return, snapLength);
		this.place(no);
		this.emit(BPF.return, 0);
		if (this.drafts.length > MOST_INSTRUCTIONS) {
			throw new FilterError(
				0,
				`the program has ${this.drafts.length} instructions, the kernel takes ${MOST_INSTRUCTIONS}`,
			);
		}
		return this.layOut();
	}

	private node(node: FilterNode, yes: Label, no: Label): void {
		const middle = new Label();
		switch (node.kind) {
			case "and":
				this.node(node.left, middle, no);
				this.place(middle);
				this.node(node.right, yes, no);
				break;
			case "or":
				this.node(node.left, yes, middle);
				this.place(middle);
				this.node(node.right, yes, no);
				break;
			case "not":
				this.node(node.of, no, yes);
				break;
			case "etherType":
				this.etherType(node.value, yes, no);
				break;
			case "protocol":
				this.protocol(node, yes, no);
				break;
			case "address":
				this.address(node, yes, no);
				break;
			case "ports":
				this.ports(node, yes, no);
				break;
			case "mac":
				this.requireEthernet("a MAC address");
				this.ends(node.end, (offset, hit, miss) => this.mac(offset, node.address, hit, miss), [6, 0], yes, no);
				break;
			case "group":
				this.requireEthernet(node.only);
				if (node.only === "multicast") this.test(BPF.loadByte, 0, BPF.anyBit, 1, yes, no);
				else this.mac(0, [255, 255, 255, 255, 255, 255], yes, no);
				break;
			case "length":
				this.emit(BPF.loadLength, 0);
				this.branch(BPF.greaterOrEqual, node.least, middle, no);
				this.place(middle);
				this.branch(BPF.greater, node.most, no, yes);
				break;
			case "vlan":
				this.vlan(node.id, yes, no);
				break;
		}
	}

	private etherType(value: number, yes: Label, no: Label): void {
		if (this.medium === "ethernet") {
			this.test(BPF.loadHalf, this.type, BPF.equal, value, yes, no);
			return;
		}
		const version = value === IPV4 ? 0x40 : value === IPV6 ? 0x60 : undefined;
		if (version === undefined) this.jump(no);
		else {
			this.emit(BPF.loadByte, 0);
			this.emit(BPF.and, 0xf0);
			this.branch(BPF.equal, version, yes, no);
		}
	}

	private protocol({ value, family }: { value: number; family: 4 | 6 | undefined }, yes: Label, no: Label): void {
		const six = new Label();
		const inFour = new Label();
		const inSix = new Label();
		if (family !== 6) {
			this.etherType(IPV4, inFour, family === 4 ? no : six);
			this.place(inFour);
			this.test(BPF.loadByte, this.network + 9, BPF.equal, value, yes, no);
		}
		if (family === 4) return;
		this.place(six);
		this.etherType(IPV6, inSix, no);
		this.place(inSix);
		const fragment = new Label();
		const isFragment = new Label();
		this.test(BPF.loadByte, this.network + 6, BPF.equal, value, yes, fragment);
		// As libpcap does, one fragment header is looked through; other extension headers are not.
		this.place(fragment);
		this.branch(BPF.equal, 44, isFragment, no);
		this.place(isFragment);
		this.test(BPF.loadByte, this.network + 40, BPF.equal, value, yes, no);
	}

	private address(node: Extract<FilterNode, { kind: "address" }>, yes: Label, no: Label): void {
		const { prefix, end, family } = node;
		if (prefix.family === 6) {
			const six = new Label();
			this.etherType(IPV6, six, no);
			this.place(six);
			this.ends(
				end,
				(at, hit, miss) => this.words(at, prefix.words, prefix.mask, hit, miss),
				[this.network + 8, this.network + 24],
				yes,
				no,
			);
			return;
		}
		const four = new Label();
		const arp = new Label();
		const isArp = new Label();
		const compare = (at: number, hit: Label, miss: Label): void => this.words(at, prefix.words, prefix.mask, hit, miss);
		if (family !== "arp") {
			this.etherType(IPV4, four, family === 4 || this.medium === "ip" ? no : arp);
			this.place(four);
			this.ends(end, compare, [this.network + 12, this.network + 16], yes, no);
			if (family === 4 || this.medium === "ip") return;
		}
		// Sender and target protocol addresses of an Ethernet/IPv4 ARP packet (RFC 826).
		this.place(arp);
		this.etherType(ARP, isArp, no);
		this.place(isArp);
		this.ends(end, compare, [this.network + 14, this.network + 24], yes, no);
	}

	private ports(node: Extract<FilterNode, { kind: "ports" }>, yes: Label, no: Label): void {
		const four = new Label();
		const six = new Label();
		const isSix = new Label();
		const first = new Label();
		const { low, high, end } = node;
		const within = (hit: Label, miss: Label): void => {
			if (low === high) {
				this.branch(BPF.equal, low, hit, miss);
				return;
			}
			const enough = new Label();
			this.branch(BPF.greaterOrEqual, low, enough, miss);
			this.place(enough);
			this.branch(BPF.greater, high, miss, hit);
		};
		this.etherType(IPV4, four, six);
		this.place(four);
		this.oneOf(this.network + 9, node.protocols, no);
		// Only the first fragment has ports.
		this.test(BPF.loadHalf, this.network + 6, BPF.anyBit, 0x1fff, no, first);
		this.place(first);
		this.emit(BPF.loadHeaderLength, this.network);
		this.ends(
			end,
			(at, hit, miss) => {
				this.emit(BPF.loadHalfIndexed, this.network + at);
				within(hit, miss);
			},
			[0, 2],
			yes,
			no,
		);
		this.place(six);
		this.etherType(IPV6, isSix, no);
		this.place(isSix);
		this.oneOf(this.network + 6, node.protocols, no);
		this.ends(
			end,
			(at, hit, miss) => {
				this.emit(BPF.loadHalf, this.network + 40 + at);
				within(hit, miss);
			},
			[0, 2],
			yes,
			no,
		);
	}

	/** Goes on when the byte at `at` is one of `values`. */
	private oneOf(at: number, values: readonly number[], no: Label): void {
		const found = new Label();
		this.emit(BPF.loadByte, at);
		values.forEach((value, index) => {
			const next = new Label();
			this.branch(BPF.equal, value, found, index === values.length - 1 ? no : next);
			this.place(next);
		});
		this.place(found);
	}

	/** A test at the source's or destination's offset, at either, or at both. */
	private ends(
		end: FilterEnd,
		compare: (at: number, hit: Label, miss: Label) => void,
		offsets: readonly [number, number],
		yes: Label,
		no: Label,
	): void {
		const [source, destination] = offsets;
		const second = new Label();
		if (end === "src") compare(source, yes, no);
		else if (end === "dst") compare(destination, yes, no);
		else {
			if (end === "either") compare(source, yes, second);
			else compare(source, second, no);
			this.place(second);
			compare(destination, yes, no);
		}
	}

	private words(at: number, words: readonly number[], masks: readonly number[], yes: Label, no: Label): void {
		words.forEach((word, index) => {
			const mask = masks[index]!;
			if (mask === 0) return;
			const next = new Label();
			this.emit(BPF.loadWord, at + 4 * index);
			if (mask !== -1) this.emit(BPF.and, mask >>> 0);
			this.branch(BPF.equal, word >>> 0, next, no);
			this.place(next);
		});
		this.jump(yes);
	}

	private mac(at: number, address: readonly number[], yes: Label, no: Label): void {
		const [a, b, c, d, e, f] = address as [number, number, number, number, number, number];
		const rest = new Label();
		this.test(BPF.loadWord, at + 2, BPF.equal, ((c << 24) | (d << 16) | (e << 8) | f) >>> 0, rest, no);
		this.place(rest);
		this.test(BPF.loadHalf, at, BPF.equal, (a << 8) | b, yes, no);
	}

	private vlan(id: number | undefined, yes: Label, no: Label): void {
		this.requireEthernet("vlan");
		this.testsVlan = true;
		const tagged = new Label();
		const other = new Label();
		const service = new Label();
		this.test(BPF.loadHalf, this.type, BPF.equal, 0x8100, tagged, other);
		this.place(other);
		this.branch(BPF.equal, 0x88a8, tagged, service);
		this.place(service);
		this.branch(BPF.equal, 0x9100, tagged, no);
		this.place(tagged);
		if (id === undefined) this.jump(yes);
		else {
			this.emit(BPF.loadHalf, this.network);
			this.emit(BPF.and, 0x0fff);
			this.branch(BPF.equal, id, yes, no);
		}
		this.type += 4;
		this.network += 4;
	}

	private test(load: number, at: number, jump: number, value: number, yes: Label, no: Label): void {
		this.emit(load, at);
		this.branch(jump, value, yes, no);
	}

	private emit(code: number, k: number): void {
		this.drafts.push({ code, k });
	}

	private branch(code: number, k: number, yes: Label, no: Label): void {
		this.drafts.push({ code, k, yes, no });
	}

	private jump(to: Label): void {
		this.drafts.push({ code: BPF.jump, k: 0, yes: to });
	}

	private place(label: Label): void {
		label.at = this.drafts.length;
	}

	private requireEthernet(what: string): void {
		if (this.medium !== "ethernet") throw new FilterError(0, `${what} is not in bare IP packets`);
	}

	/**
	 * Resolves labels. A conditional jump reaches 255 instructions; in a program where one would have to go further each
	 * is followed by two unconditional jumps, which reach any distance.
	 */
	private layOut(): FilterInstruction[] {
		const { drafts } = this;
		const conditional = (draft: Draft): boolean => draft.no !== undefined;
		const far = drafts.some((draft, at) => conditional(draft) && Math.max(draft.yes!.at, draft.no!.at) - at - 1 > 255);
		const starts: number[] = [];
		let next = 0;
		for (const draft of drafts) {
			starts.push(next);
			next += far && conditional(draft) ? 3 : 1;
		}
		if (next > MOST_INSTRUCTIONS)
			throw new FilterError(0, `the program has ${next} instructions, the kernel takes ${MOST_INSTRUCTIONS}`);
		return drafts.flatMap(({ code, k, yes, no }, index): FilterInstruction[] => {
			const at = starts[index]!;
			const reach = (label: Label, from: number): number => starts[label.at]! - from - 1;
			if (yes === undefined) return [{ code, jt: 0, jf: 0, k }];
			if (no === undefined) return [{ code, jt: 0, jf: 0, k: reach(yes, at) }];
			if (!far) return [{ code, jt: reach(yes, at), jf: reach(no, at), k }];
			return [
				{ code, jt: 0, jf: 1, k },
				{ code: BPF.jump, jt: 0, jf: 0, k: reach(yes, at + 1) },
				{ code: BPF.jump, jt: 0, jf: 0, k: reach(no, at + 2) },
			];
		});
	}
}

/**
 * Compiles the commoner half of pcap-filter(7) to classic BPF: `ip`, `ip6`, `arp`, `tcp`, `udp`, `icmp`, `icmp6`,
 * `sctp`, `[src|dst] host ADDRESS`, `[src|dst] net ADDRESS/LENGTH`, `[tcp|udp|sctp] [src|dst] port N`, `portrange A-B`,
 * `ether [src|dst] host MAC`, `ether proto N`, `ip proto N`, `vlan [ID]`, `broadcast`, `multicast`, `less N`,
 * `greater N`, joined by `and`, `or`, `not` and parentheses.
 *
 * @throws FilterError with the character where it went wrong
 */
export function compileFilter(expression: string, options: FilterOptions = {}): FilterProgram {
	const node = parseFilter(expression);
	const compiler = new Compiler(options.medium ?? "ethernet");
	const instructions = compiler.compile(node, options.snapLength ?? 262144);
	return {
		expression,
		instructions,
		testsVlan: compiler.testsVlan,
		matches: (frame) => runFilter(instructions, frame) !== 0,
	};
}
