import { RegdomainError } from "../errors.ts";
import type { Band } from "../model/bands.ts";
import type { Domain } from "../model/domain.ts";
import type { ChannelDecision } from "../rules/evaluate.ts";

/** Element id of the Country element (IEEE 802.11-2020 9.4.2.8). */
export const COUNTRY_ELEMENT_ID = 7;

/** Third octet of the country string: any place, outdoors, indoors, no country, or the table E-4 that 6 GHz uses. */
export const CountryEnvironment = { ANY: 0x20, OUTDOOR: 0x4f, INDOOR: 0x49, NONCOUNTRY: 0x58, TABLE_E4: 0x04 } as const;

/** A run of channels with one power limit. */
export interface SubbandTriplet {
	/** First channel number. */
	first: number;
	/** How many channels. */
	count: number;
	/** Highest power, dBm. */
	maxPowerDbm: number;
}

/** An operating class, under which the following sub-bands lie. */
export interface OperatingTriplet {
	/** Operating extension identifier, 201 or more. */
	extension: number;
	/** Operating class of annex E. */
	operatingClass: number;
	/** Coverage class: air propagation time in 3 µs steps. */
	coverageClass: number;
}

/** A Country element. */
export interface CountryElement {
	/** Country code; "XX" with {@link CountryEnvironment} NONCOUNTRY. */
	alpha2: string;
	/** Third octet. */
	environment: number;
	/** Triplets in order. */
	triplets: (SubbandTriplet | OperatingTriplet)[];
}

/** Whether a triplet names an operating class. */
export const isOperatingTriplet = (triplet: SubbandTriplet | OperatingTriplet): triplet is OperatingTriplet =>
	"extension" in triplet;

/**
 * Reads a Country element: id 7, length, country string, triplets of 3 bytes; one zero byte may pad it to even length.
 *
 * @param bytes - the element from its id on; bytes after its length are not looked at
 * @throws RegdomainError `ELEMENT_ID` for another id, `ELEMENT_LENGTH` when it is cut short or shorter than 6
 */
export function parseCountryElement(bytes: Uint8Array): CountryElement {
	if (bytes[0] !== COUNTRY_ELEMENT_ID) {
		throw new RegdomainError("ELEMENT_ID", `element id ${bytes[0] ?? "(none)"}: a Country element has id 7`, bytes[0], {
			offset: 0,
		});
	}
	const length = bytes[1] ?? 0;
	if (length < 6 || bytes.length < 2 + length) {
		throw new RegdomainError(
			"ELEMENT_LENGTH",
			`a Country element of length ${length} in ${bytes.length} bytes: at least 6 are needed, and all of them`,
			length,
			{ offset: 1 },
		);
	}
	const body = bytes.subarray(2, 2 + length);
	const triplets: CountryElement["triplets"] = [];
	for (let at = 3; at + 3 <= length; at += 3) {
		const [one, two, three] = body.subarray(at, at + 3) as unknown as [number, number, number];
		triplets.push(
			one >= 201
				? { extension: one, operatingClass: two, coverageClass: three }
				: { first: one, count: two, maxPowerDbm: (three << 24) >> 24 },
		);
	}
	return { alpha2: String.fromCharCode(body[0]!, body[1]!), environment: body[2]!, triplets };
}

function octet(value: number, lowest: number, highest: number, field: string): number {
	if (!Number.isInteger(value) || value < lowest || value > highest) {
		throw new RegdomainError("BAD_ARGUMENT", `${field} must be an integer from ${lowest} to ${highest}`, value, {
			field,
		});
	}
	return value & 0xff;
}

/**
 * Writes a Country element, padded to even length.
 *
 * @throws RegdomainError `BAD_ARGUMENT` for a figure that does not fit its octet, `ELEMENT_LENGTH` beyond 255 bytes
 */
export function writeCountryElement(element: CountryElement): Uint8Array {
	if (!/^[\x20-\x7e]{2}$/.test(element.alpha2))
		throw new RegdomainError("BAD_ALPHA2", "a country string starts with two ASCII characters", element.alpha2);
	const body = [
		element.alpha2.charCodeAt(0),
		element.alpha2.charCodeAt(1),
		octet(element.environment, 0, 255, "environment"),
	];
	for (const triplet of element.triplets) {
		if (isOperatingTriplet(triplet)) {
			body.push(
				octet(triplet.extension, 201, 255, "extension"),
				octet(triplet.operatingClass, 0, 255, "operatingClass"),
			);
			body.push(octet(triplet.coverageClass, 0, 255, "coverageClass"));
		} else {
			body.push(octet(triplet.first, 0, 200, "first"), octet(triplet.count, 0, 255, "count"));
			body.push(octet(triplet.maxPowerDbm, -128, 127, "maxPowerDbm"));
		}
	}
	if (body.length % 2 === 1) body.push(0);
	if (body.length > 255)
		throw new RegdomainError("ELEMENT_LENGTH", `the element has ${body.length} bytes; 255 fit`, body.length);
	return Uint8Array.of(COUNTRY_ELEMENT_ID, body.length, ...body);
}

/** How to build an element. */
export interface CountryElementOptions {
	/** Third octet. @default 0x20; 0x04 in 6 GHz, as hostapd from 2.11 does */
	environment?: number;
	/** Operating class that a 6 GHz element names. @default 131, 20 MHz */
	operatingClass?: number;
	/**
	 * `"hostapd-2.10"` takes the power from the last rule that holds the whole channel, and 0 dBm where it lies across two, as
	 * hostapd does; `"none"` takes what the kernel allows.
	 *
	 * @default "none"
	 */
	quirks?: "none" | "hostapd-2.10";
}

const inMHz = (khz: number): number => Math.trunc(khz / 1000);

/** Power hostapd 2.10 knows of a channel, dBm (`nl80211_reg_rule_max_eirp`). */
function hostapdPowerDbm({ rules }: Domain, centreKHz: number): number {
	const centre = inMHz(centreKHz);
	const rule = rules
		.filter(({ startKHz, endKHz }) => centre - 10 >= inMHz(startKHz) && centre + 10 <= inMHz(endKHz))
		.at(-1);
	return rule === undefined ? 0 : Math.trunc(rule.maxEirpMbm / 100);
}

/**
 * The Country element an access point on a band sends (as hostapd builds it): enabled channels of the band in runs of equal
 * power, numbered in steps of 1 in 2.4 GHz and 4 in 5 GHz; in 6 GHz only an operating class.
 *
 * @param domain - the domain in force, whose code the element carries
 * @param decisions - the radio's channels in that domain
 */
export function buildCountryElement(
	domain: Domain,
	band: Band,
	decisions: readonly ChannelDecision[],
	options: CountryElementOptions = {},
): CountryElement {
	const { alpha2 } = domain;
	if (band === "6") {
		const triplet = { extension: 201, operatingClass: options.operatingClass ?? 131, coverageClass: 0 };
		return { alpha2, environment: options.environment ?? CountryEnvironment.TABLE_E4, triplets: [triplet] };
	}
	const step = band === "5" ? 4 : 1;
	const triplets: SubbandTriplet[] = [];
	for (const { channel, centreKHz, enabled, maxEirpMbm, band: own } of decisions) {
		if (own !== band || !enabled) continue;
		const maxPowerDbm =
			options.quirks === "hostapd-2.10" ? hostapdPowerDbm(domain, centreKHz) : Math.trunc(maxEirpMbm / 100);
		const last = triplets.at(-1);
		if (last !== undefined && last.maxPowerDbm === maxPowerDbm && last.first + last.count * step === channel)
			last.count++;
		else triplets.push({ first: channel, count: 1, maxPowerDbm });
	}
	return { alpha2, environment: options.environment ?? CountryEnvironment.ANY, triplets };
}

const environments: readonly (readonly [number, string])[] = [
	[CountryEnvironment.INDOOR, "Indoor only"],
	[CountryEnvironment.OUTDOOR, "Outdoor only"],
	[CountryEnvironment.ANY, "Indoor/Outdoor"],
];

/** The element as `iw scan` prints it. */
export function renderCountryElement({ alpha2, environment, triplets }: CountryElement): string {
	const name = environments.find(([octetValue]) => octetValue === environment)?.[1] ?? "bogus";
	let text = `\tCountry: ${alpha2}\tEnvironment: ${name}\n`;
	if (triplets.length === 0) return `${text}\t\tNo country codes found\n`;
	for (const triplet of triplets) {
		if (isOperatingTriplet(triplet)) {
			const { extension, operatingClass, coverageClass } = triplet;
			text += `\t\tExtension ID: ${extension} Regulatory Class: ${operatingClass} Coverage class: ${coverageClass} (up to ${coverageClass * 450}m)\n`;
		} else {
			const { first, count, maxPowerDbm } = triplet;
			const last = first <= 14 ? first + count - 1 : first + 4 * (count - 1);
			text += `\t\tChannels [${first} - ${last}] @ ${maxPowerDbm} dBm\n`;
		}
	}
	return text;
}
