import { type ChannelDefinition, definitionsAround } from "../channel/definition.ts";
import { dmgChannels, hwsimChannels } from "../channel/plan.ts";
import { checkChannelDefinition } from "../channel/usable.ts";
import type { Band } from "../model/bands.ts";
import type { Domain, Rule } from "../model/domain.ts";
import { ChannelFlag, RuleFlag } from "../model/flags.ts";
import { type ChannelDecision, evaluateDomain } from "../rules/evaluate.ts";

/** How to draw. */
export interface ChartOptions {
	/** Title. @default "Regulatory domain " and the code */
	title?: string;
	/** Width of the picture, px. @default 1200 */
	width?: number;
}

interface Panel {
	band: Band;
	name: string;
	lowMHz: number;
	highMHz: number;
	widths: readonly number[];
}

const panels: readonly Panel[] = [
	{ band: "s1g", name: "Sub-1 GHz", lowMHz: 900, highMHz: 930, widths: [1, 2, 4, 8] },
	{ band: "2.4", name: "2.4 GHz", lowMHz: 2395, highMHz: 2500, widths: [20, 40] },
	{ band: "5", name: "5 GHz", lowMHz: 5140, highMHz: 5925, widths: [20, 40, 80, 160] },
	{ band: "6", name: "6 GHz", lowMHz: 5920, highMHz: 7135, widths: [20, 40, 80, 160, 320] },
	{ band: "60", name: "60 GHz", lowMHz: 56500, highMHz: 71500, widths: [2160] },
];

const margin = { left: 92, right: 24, top: 58 };
const powerHeight = 90;
const rowHeight = 20;
const maxDbm = 50;

const escaped = (text: string): string =>
	text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

type Mark = "off" | "open" | "radar" | "listen";

const fills: Record<Mark, string> = { off: "#e5e7eb", open: "#86c98a", radar: "#f3c969", listen: "#a9c7ec" };

function markOf(decisions: readonly ChannelDecision[], definition: ChannelDefinition): { mark: Mark; indoor: boolean } {
	if (!checkChannelDefinition(decisions, definition).usable) return { mark: "off", indoor: false };
	const half = (typeof definition.width === "number" ? definition.width : 20) * 500;
	const any = (flag: number): boolean =>
		decisions.some(({ centreKHz, flags }) => Math.abs(centreKHz - definition.centreKHz) < half && (flags & flag) !== 0);
	const mark = any(ChannelFlag.NO_IR) ? "listen" : any(ChannelFlag.RADAR) ? "radar" : "open";
	return { mark, indoor: any(ChannelFlag.INDOOR_ONLY) };
}

function ruleShape(rule: Rule, x: (mhz: number) => number, base: number): string {
	const dbm = Math.min(Math.max(rule.maxEirpMbm / 100, 0), maxDbm);
	const height = (dbm / maxDbm) * powerHeight;
	const left = x(rule.startKHz / 1000);
	const width = Math.max(x(rule.endKHz / 1000) - left, 1);
	const radar = (rule.flags & RuleFlag.DFS) !== 0;
	const names = [
		radar ? "DFS" : "",
		(rule.flags & RuleFlag.NO_OUTDOOR) !== 0 ? "indoor" : "",
		(rule.flags & (RuleFlag.NO_IR | RuleFlag.NO_IBSS)) !== 0 ? "no IR" : "",
	]
		.filter((name) => name !== "")
		.join(", ");
	const text = `${rule.startKHz / 1000} - ${rule.endKHz / 1000} MHz, ${rule.maxEirpMbm / 100} dBm${names === "" ? "" : `, ${names}`}`;
	const dash = (rule.flags & RuleFlag.NO_OUTDOOR) !== 0 ? ' stroke-dasharray="4 2"' : "";
	const y = base - height;
	const label =
		width > 34
			? `<text x="${(left + width / 2).toFixed(1)}" y="${(y - 3).toFixed(1)}" text-anchor="middle">${rule.maxEirpMbm / 100}</text>`
			: "";
	return `<g class="rule"><title>${escaped(text)}</title><rect x="${left.toFixed(1)}" y="${y.toFixed(1)}" width="${width.toFixed(1)}" height="${height.toFixed(1)}" fill="${radar ? "url(#dfs)" : "#b9d3f0"}" fill-opacity="0.85" stroke="#44699b"${dash}/>${label}</g>\n`;
}

interface DrawnChannel {
	definition: ChannelDefinition;
	channel: number;
	mark: Mark;
	indoor: boolean;
}

const rank: Record<Mark, number> = { off: 0, listen: 1, radar: 2, open: 3 };

/** Every channel of a width once, with what its best primary allows. */
function channelsOfWidth(panel: Panel, decisions: readonly ChannelDecision[], width: number): DrawnChannel[] {
	const best = new Map<number, DrawnChannel>();
	for (const { band, channel, centreKHz } of decisions) {
		if (band !== panel.band || (band === "5" && channel > 165 && (channel - 149) % 4 !== 0)) continue;
		for (const definition of definitionsAround(band, centreKHz, width === 2160 ? 20 : width)) {
			// Of the 320 MHz channels, which overlap by half, one set is drawn.
			if (width === 320 && (definition.centreKHz - 6_105_000) % 320_000 !== 0) continue;
			const candidate = { definition, channel, ...markOf(decisions, definition) };
			const known = best.get(definition.centreKHz);
			if (known === undefined || rank[candidate.mark] > rank[known.mark]) best.set(definition.centreKHz, candidate);
		}
	}
	return [...best.values()];
}

function channelShapes(
	panel: Panel,
	decisions: readonly ChannelDecision[],
	x: (mhz: number) => number,
	top: number,
): string {
	let shapes = "";
	for (const [row, width] of panel.widths.entries()) {
		const y = top + row * rowHeight;
		shapes += `<text x="${margin.left - 8}" y="${y + 14}" text-anchor="end">${width} MHz</text>\n`;
		shapes += channelsOfWidth(panel, decisions, width)
			.map((drawn) => channelShape(drawn, width, x, y))
			.join("");
	}
	return shapes;
}

function channelShape(
	{ definition, channel, mark, indoor }: DrawnChannel,
	width: number,
	x: (mhz: number) => number,
	y: number,
): string {
	const centre = definition.centreKHz / 1000;
	// Channels of 2.4 GHz overlap; each is drawn as wide as their spacing.
	const drawn = centre > 2000 && centre < 3000 ? 5 : width;
	const left = x(centre - drawn / 2);
	const span = x(centre + drawn / 2) - left;
	const title = `${centre} MHz, ${width} MHz wide: ${mark}${indoor ? ", indoor only" : ""}`;
	const dash = indoor ? ' stroke-dasharray="3 2"' : "";
	const narrow = width === 20 || width === 1 || width === 2160;
	const middle = (left + span / 2).toFixed(1);
	const fits = narrow && span > String(channel).length * 6.5;
	const label = fits ? `<text x="${middle}" y="${y + 13}" text-anchor="middle" class="n">${channel}</text>` : "";
	const box = `x="${(left + 0.5).toFixed(1)}" y="${y + 2}" width="${Math.max(span - 1, 0.5).toFixed(1)}" height="${rowHeight - 5}"`;
	return `<g class="${mark}"><title>${escaped(title)}</title><rect ${box} rx="2" fill="${fills[mark]}" stroke="#8a94a3"${dash}/>${label}</g>\n`;
}

function legend(y: number): string {
	const entries: readonly [string, string][] = [
		[fills.open, "free to use"],
		[fills.radar, "after a radar check"],
		[fills.listen, "join only (no IR)"],
		[fills.off, "not allowed"],
	];
	const items = entries.map(([fill, name], index) => {
		const x = margin.left + index * 160;
		return `<rect x="${x}" y="${y}" width="14" height="12" fill="${fill}" stroke="#8a94a3"/><text x="${x + 20}" y="${y + 10}">${name}</text>`;
	});
	const x = margin.left + entries.length * 160;
	return `${items.join("\n")}\n<rect x="${x}" y="${y}" width="14" height="12" fill="none" stroke="#44699b" stroke-dasharray="4 2"/><text x="${x + 20}" y="${y + 10}">indoor only</text>\n<rect x="${x + 120}" y="${y}" width="14" height="12" fill="url(#dfs)" stroke="#44699b"/><text x="${x + 140}" y="${y + 10}">radar detection</text>\n`;
}

/**
 * A spectrum chart of a domain as SVG: per band the rules as bars as high as their EIRP (hatched with DFS, dashed when
 * indoor only), and below a row of channels for every width, coloured by what an access point may do there.
 */
export function renderChart(domain: Domain, options: ChartOptions = {}): string {
	const width = options.width ?? 1200;
	const title = options.title ?? `Regulatory domain ${domain.alpha2}`;
	const decisions = evaluateDomain(domain, {
		channels: [...hwsimChannels, { band: "5", channel: 144, centreKHz: 5_720_000 }, ...dmgChannels],
	});
	const shown = panels.filter(({ lowMHz, highMHz }) =>
		domain.rules.some(({ startKHz, endKHz }) => endKHz / 1000 > lowMHz && startKHz / 1000 < highMHz),
	);
	let y = margin.top;
	let body = "";
	for (const panel of shown) {
		const { lowMHz, highMHz } = panel;
		const x = (mhz: number): number =>
			margin.left +
			((Math.min(Math.max(mhz, lowMHz), highMHz) - lowMHz) / (highMHz - lowMHz)) * (width - margin.left - margin.right);
		const base = y + powerHeight + 16;
		body += `<text x="${margin.left - 8}" y="${base - powerHeight + 4}" text-anchor="end" class="b">${panel.name}</text>\n<text x="${margin.left - 8}" y="${base}" text-anchor="end">0 dBm</text>\n`;
		body += `<line x1="${margin.left}" y1="${base}" x2="${width - margin.right}" y2="${base}" stroke="#44505f"/>\n`;
		const rules = domain.rules.filter(({ startKHz, endKHz }) => endKHz / 1000 > lowMHz && startKHz / 1000 < highMHz);
		body += rules.map((rule) => ruleShape(rule, x, base)).join("");
		body += channelShapes(panel, decisions, x, base + 4);
		y = base + 4 + panel.widths.length * rowHeight + 18;
	}
	const height = y + 34;
	return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
<title>${escaped(title)}</title>
<defs><pattern id="dfs" width="8" height="8" patternTransform="rotate(45)" patternUnits="userSpaceOnUse"><rect width="8" height="8" fill="#f7dc9b"/><rect width="3" height="8" fill="#dfa63a"/></pattern></defs>
<style>text{font:12px sans-serif;fill:#1f2937}.n{font-size:9px}.b{font-weight:bold}.t{font-size:20px;font-weight:bold}</style>
<rect width="${width}" height="${height}" fill="#ffffff"/>
<text x="${margin.left}" y="32" class="t">${escaped(title)}</text>
${body}${legend(y)}</svg>
`;
}
