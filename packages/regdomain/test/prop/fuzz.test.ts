import { describe, expect, test } from "vitest";
import { checkHostapd, checkNetworkManager, checkUci } from "../../src/config/index.ts";
import { bundledDatabase } from "../../src/data/index.ts";
import { buildCountryElement, parseCountryElement, writeCountryElement } from "../../src/element/index.ts";
import {
	dbTxtToRegulatoryBin,
	dbTxtToRegulatoryDb,
	decompileRegulatoryDb,
	formatDbTxt,
	lintDbTxt,
	parseDbTxt,
	readRegulatoryBin,
	readRegulatoryDb,
	writeDbTxt,
	writeRegulatoryBin,
	writeRegulatoryDb,
} from "../../src/formats/index.ts";
import { type Domain, evaluateDomain, RegdomainError } from "../../src/index.ts";
import { knownSigners, parseCertificate, parseDetachedSignature, signDetached } from "../../src/signature/index.ts";
import { parseIwChannels, parseIwRegGet, renderIwChannels, renderIwRegGet } from "../../src/text/index.ts";

// REGDOMAIN_FUZZ=1000000 makes the long run; npm test makes a short one.
const total = Number(process.env["REGDOMAIN_FUZZ"] ?? 6_000);
const seed = Number(process.env["REGDOMAIN_FUZZ_SEED"] ?? 20_260_530);

/** mulberry32: the same inputs for the same seed. */
function randomFrom(state: number): () => number {
	return () => {
		state = (state + 0x6d2b79f5) | 0;
		let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
		mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
	};
}

const interesting = [0, 1, 2, 3, 7, 16, 18, 20, 0x7f, 0x80, 0xfe, 0xff];

function mutate(base: Uint8Array, random: () => number): Uint8Array {
	const int = (limit: number): number => Math.floor(random() * limit);
	let bytes = Uint8Array.from(base);
	for (let count = 1 + int(4); count > 0; count--) {
		const at = int(bytes.length + 1);
		switch (int(6)) {
			case 0:
				if (bytes.length > 0) bytes[at % bytes.length]! ^= 1 << int(8);
				break;
			case 1:
				if (bytes.length > 0) bytes[at % bytes.length] = interesting[int(interesting.length)]!;
				break;
			case 2:
				bytes = bytes.slice(0, at);
				break;
			case 3:
				bytes = Uint8Array.from([...bytes.subarray(0, at), int(256), ...bytes.subarray(at)]);
				break;
			case 4: {
				const from = int(bytes.length + 1);
				bytes.copyWithin(at, from, from + int(32));
				break;
			}
			default:
				for (let index = at; index < Math.min(at + 4, bytes.length); index++) bytes[index] = int(256);
		}
	}
	return bytes;
}

const words = [
	"country",
	"band",
	"power",
	"wmmrule",
	"(",
	")",
	",",
	"@",
	"-",
	":",
	"=",
	"#",
	"DFS",
	"NO-IR",
	"mW",
	"N/A",
	"inf",
	"nan",
	"1e999",
	"-0",
	"\n",
	"\r",
	"\t",
	"é",
	"wmmrule=ETSI",
	"999999999",
	"0.0001",
];

function mutateText(base: string, random: () => number): string {
	const int = (limit: number): number => Math.floor(random() * limit);
	let text = base;
	for (let count = 1 + int(4); count > 0; count--) {
		const at = int(text.length + 1);
		switch (int(4)) {
			case 0:
				text = text.slice(0, at) + words[int(words.length)] + text.slice(at);
				break;
			case 1:
				text = text.slice(0, at) + text.slice(at + 1 + int(8));
				break;
			case 2:
				text = text.slice(0, at) + String.fromCharCode(int(random() < 0.9 ? 128 : 65536)) + text.slice(at + 1);
				break;
			default: {
				const from = int(text.length + 1);
				text = text.slice(0, at) + text.slice(from, from + int(40)) + text.slice(at);
			}
		}
	}
	return text;
}

/** Runs one input; only a typed error may come out. Returns the result, or undefined. */
function attempt<T>(run: () => T, describeInput: () => string): T | undefined {
	const started = performance.now();
	let result: T | undefined;
	try {
		result = run();
	} catch (error) {
		if (!(error instanceof RegdomainError)) throw new Error(`untyped error for ${describeInput()}`, { cause: error });
	}
	if (performance.now() - started > 5_000) throw new Error(`too slow for ${describeInput()}`);
	return result;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const few = (...codes: string[]): { domains: Map<string, Domain> } => ({
	domains: new Map(codes.map((code) => [code, bundledDatabase().domains.get(code)!])),
});

/** The same bytes in the middle of a larger buffer, so that a read past either end would see something else. */
function embedded(bytes: Uint8Array): Uint8Array {
	const larger = new Uint8Array(bytes.length + 256).fill(0xa5);
	larger.set(bytes, 128);
	return larger.subarray(128, 128 + bytes.length);
}

const outcome = (run: () => unknown): string => {
	try {
		return JSON.stringify(run(), (_, value: unknown) => (value instanceof Map ? [...value] : value));
	} catch (error) {
		return (error as Error).message;
	}
};

function fuzzBytes(base: Uint8Array, count: number, read: (bytes: Uint8Array) => unknown): void {
	const random = randomFrom(seed);
	for (let index = 0; index < count; index++) {
		const bytes = mutate(base, random);
		attempt(
			() => read(bytes),
			() => hex(bytes),
		);
		if (index % 64 === 0) expect(outcome(() => read(embedded(bytes)))).toBe(outcome(() => read(bytes)));
	}
}

function fuzzText(bases: readonly string[], count: number, read: (text: string) => unknown): void {
	const random = randomFrom(seed);
	for (let index = 0; index < count; index++) {
		const text = mutateText(bases[index % bases.length]!, random);
		attempt(
			() => read(text),
			() => JSON.stringify(text),
		);
	}
}

describe(`${total} mutated inputs, seed ${seed}: a typed error or a valid result`, () => {
	const source = few("00", "DE", "US", "JP", "RU");
	const share = (part: number): number => Math.ceil(total * part);

	test("regulatory.db", { timeout: 3_600_000 }, () => {
		fuzzBytes(writeRegulatoryDb(source), share(0.35), (bytes) => {
			const database = readRegulatoryDb(bytes);
			for (const domain of database.domains.values())
				evaluateDomain({ ...domain, rules: domain.rules.slice(0, 8) }, { channels: [] });
			// What reads must write, or say why not, and read back the same.
			const written = attempt(
				() => writeRegulatoryDb(database),
				() => hex(bytes),
			);
			if (written !== undefined) expect(readRegulatoryDb(written).domains.size).toBe(database.domains.size);
			return [...database.domains.keys()];
		});
	});

	test("regulatory.bin", { timeout: 3_600_000 }, () => {
		fuzzBytes(writeRegulatoryBin(source), share(0.2), (bytes) => {
			const { database } = readRegulatoryBin(bytes);
			attempt(
				() => writeRegulatoryBin(database),
				() => hex(bytes),
			);
			return [...database.domains.keys()];
		});
	});

	test("db.txt", { timeout: 3_600_000 }, () => {
		const bases = [
			writeDbTxt(few("DE", "RU")),
			"band b: 2402 - 2472 @ 40\npower p: 100 mW\n\n# x\ncountry US,CA: DFS-FCC\n\tb, p, NO-IR\n\t(5150 - 5250 @ 80), (23), DFS\n",
		];
		fuzzText(bases, share(0.3), (text) => {
			const parsed = parseDbTxt(text);
			attempt(
				() => dbTxtToRegulatoryBin(parsed),
				() => JSON.stringify(text),
			);
			lintDbTxt(parsed);
			const compiled = dbTxtToRegulatoryDb(parsed);
			expect(readRegulatoryDb(compiled).domains.size).toBeLessThanOrEqual(parsed.countries.length);
			const again = attempt(
				() => dbTxtToRegulatoryDb(parseDbTxt(formatDbTxt(text))),
				() => JSON.stringify(text),
			);
			if (again !== undefined) expect(hex(again)).toBe(hex(compiled));
		});
	});

	test("country elements", { timeout: 3_600_000 }, () => {
		const decisions = evaluateDomain(bundledDatabase().domains.get("US")!);
		fuzzBytes(
			writeCountryElement(buildCountryElement(bundledDatabase().domains.get("US")!, "5", decisions)),
			share(0.15),
			(bytes) => {
				const element = parseCountryElement(bytes);
				const written = attempt(
					() => writeCountryElement(element),
					() => hex(bytes),
				);
				if (written !== undefined) expect(parseCountryElement(written).triplets).toEqual(element.triplets);
			},
		);
	});

	test("decompiling, signatures, iw text and configurations", { timeout: 3_600_000 }, async () => {
		const count = share(0.02);
		fuzzBytes(writeRegulatoryDb(few("DE", "JP")), count, (bytes) => decompileRegulatoryDb(bytes).identical);
		const certificate = knownSigners()[0]!.certificate!;
		fuzzBytes(certificate.der, count, (bytes) => parseCertificate(bytes).subject);
		const { privateKey } = await crypto.subtle.generateKey(
			{ name: "RSASSA-PKCS1-v1_5", modulusLength: 1024, publicExponent: Uint8Array.of(1, 0, 1), hash: "SHA-256" },
			true,
			["sign", "verify"],
		);
		const pkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", privateKey)).toString("base64");
		const p7s = await signDetached(
			Uint8Array.of(1, 2, 3),
			`-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`,
			certificate,
		);
		fuzzBytes(p7s, count, (bytes) => parseDetachedSignature(bytes).signers.length);
		const domain = bundledDatabase().domains.get("US")!;
		fuzzText([renderIwRegGet([{ owner: "global", domain }])], count, (text) => parseIwRegGet(text));
		fuzzText([renderIwChannels(evaluateDomain(domain).slice(0, 30))], Math.ceil(count / 4), (text) =>
			parseIwChannels(text),
		);
		const database = bundledDatabase();
		const hostapd =
			"country_code=DE\nieee80211d=1\nhw_mode=a\nchannel=36\nieee80211ac=1\nvht_oper_chwidth=1\nvht_oper_centr_freq_seg0_idx=42\n";
		fuzzText([hostapd], Math.ceil(count / 8), (text) => checkHostapd(text, database));
		fuzzText(
			["config wifi-device 'radio0'\n\toption band '5g'\n\toption channel '36'\n\toption htmode 'HE80'\n"],
			Math.ceil(count / 8),
			(text) => checkUci(text, database),
		);
		fuzzText(["[wifi]\nmode=ap\nband=a\nchannel=36\nchannel-width=80\n"], Math.ceil(count / 8), (text) =>
			checkNetworkManager(text, database, "DE"),
		);
	});
});
