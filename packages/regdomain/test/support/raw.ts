import type { Band, Domain, Rule } from "../../src/index.ts";

/** A domain as the recorder dumped it over nl80211. */
export interface RawDomain {
	owner: string;
	domain: Domain;
}

/** A channel as the recorder dumped it. */
export interface RawChannel {
	band: Band;
	centreKHz: number;
	maxEirpMbm: number;
	cacMs: number;
	flags: string[];
}

const bandNames: Record<string, Band> = { 0: "2.4", 1: "5", 3: "6", 4: "s1g" };

function rule(line: string): Rule {
	const [startKHz, endKHz, maxBandwidthKHz, maxGainMbi, maxEirpMbm, cacMs] = line.trim().split(" ").map(Number);
	return {
		startKHz: startKHz!,
		endKHz: endKHz!,
		maxBandwidthKHz: maxBandwidthKHz!,
		maxGainMbi: maxGainMbi!,
		maxEirpMbm: maxEirpMbm!,
		cacMs: cacMs!,
		flags: Number.parseInt(line.trim().split(" ")[6]!, 16),
	};
}

/** Reads a section: the domains put in (after INPUT), the domains reported, and the channels. */
export function parseRaw(lines: readonly string[]): { input: Domain[]; domains: RawDomain[]; channels: RawChannel[] } {
	const input: Domain[] = [];
	const domains: RawDomain[] = [];
	const channels: RawChannel[] = [];
	let rules: Rule[] = [];
	for (const line of lines) {
		const reported = /^(\S+) (\S\S) dfs=(\d+)$/.exec(line);
		const given = /^(\S\S) (\d)$/.exec(line);
		if (reported !== null) {
			rules = [];
			domains.push({ owner: reported[1]!, domain: { alpha2: reported[2]!, dfsRegion: Number(reported[3]), rules } });
		} else if (given !== null) {
			rules = [];
			input.push({ alpha2: given[1]!, dfsRegion: Number(given[2]), rules });
		} else if (/^ ?\d+ \d+ \d+ \d+ \d+ \d+ [0-9a-f]+$/.test(line)) {
			rules.push(rule(line));
		} else if (/^[0-4] \d+\.\d{3} /.test(line)) {
			const [band, centre, power, cac, ...flags] = line.split(" ");
			channels.push({
				band: bandNames[band!]!,
				centreKHz: Math.round(Number(centre) * 1000),
				maxEirpMbm: Number(power),
				cacMs: Number(cac),
				flags: flags.sort(),
			});
		}
	}
	return { input, domains, channels };
}
