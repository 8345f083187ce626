import { parseDbTxt } from "./parse.ts";
import { strip } from "./python.ts";

/** What the parser sees of a line. */
const compact = (text: string): string => strip(text).replaceAll(/[ \t]/g, "");

const item = /^\(\s*([^()]*?)\s*-\s*([^()]*?)\s*@\s*([^()]*?)\s*\)\s*,\s*\(\s*([^()]*?)\s*\)\s*(.*)$/;

function power(text: string): string {
	return text.replaceAll(/\s+/g, "").replace(/mW$/, " mW");
}

function statement(code: string, inCountry: boolean): string {
	const rule = item.exec(code);
	if (rule !== null) {
		const [, start, end, width, eirp, rest] = rule;
		const flags = rest!
			.replace(/^,/, "")
			.replaceAll(/\s+/g, "")
			.split(",")
			.filter((flag) => flag !== "");
		return `\t(${start} - ${end} @ ${width}), (${power(eirp!)})${flags.map((flag) => `, ${flag}`).join("")}`;
	}
	const heading = /^(country|wmmrule)\s*(.*?)\s*:\s*(.*)$/.exec(code);
	if (heading !== null)
		return `${heading[1]} ${heading[2]!.replaceAll(/\s+/g, "")}:${heading[3] === "" ? "" : ` ${heading[3]}`}`;
	const category = /^(\w+)\s*:\s*(cw_min\s*=.*)$/.exec(code);
	if (category !== null) return `\t${category[1]}: ${category[2]!.replaceAll(/\s+/g, "").replaceAll(",", ", ")}`;
	const definition = /^(band|power)\s*(.*?)\s*:\s*(.*)$/.exec(code);
	if (definition !== null) return `${definition[1]} ${definition[2]}: ${definition[3]!.replaceAll(/\s+/g, " ")}`;
	return inCountry ? `\t${code.replaceAll(/\s+/g, "").replaceAll(",", ", ")}` : code;
}

/**
 * Writes a db.txt in one style: rules indented by a tab, one space around figures, no trailing blanks, one empty line at
 * most. Comments, order and figures stay; the text compiles to the same bytes.
 *
 * @throws RegdomainError when the text does not parse
 */
export function formatDbTxt(text: string): string {
	parseDbTxt(text);
	const lines: string[] = [];
	let inCountry = false;
	for (const raw of text.split(/\r\n|\r|\n/)) {
		const line = strip(raw);
		if (line === "") {
			if (lines.length > 0 && lines.at(-1) !== "") lines.push("");
			continue;
		}
		const comment = line.indexOf("#");
		const code = strip(comment < 0 ? line : line.slice(0, comment));
		const remark = comment < 0 ? "" : line.slice(comment);
		if (code === "") {
			lines.push(/^\s/.test(raw) && inCountry ? `\t${remark}` : remark);
			continue;
		}
		if (/^(country|band|power|wmmrule)/.test(code)) inCountry = code.startsWith("country");
		const styled = statement(code, inCountry);
		// Odd characters are best left alone.
		const faithful = compact(styled) === compact(code) ? styled : `${inCountry ? "\t" : ""}${code}`;
		lines.push(faithful + (remark === "" ? "" : ` ${remark}`));
	}
	while (lines.at(-1) === "") lines.pop();
	return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}
