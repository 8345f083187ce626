/** Modulation modes of a sub-band, as bits: 802.11a, b, g, and Atheros' two turbo modes. */
export const Modulation = { A: 1, B: 2, G: 4, TURBO: 8, TURBO_G: 16 } as const;

/** Where a sub-band may be used, as the third octet of an 802.11d country string: indoors, outdoors, both. */
export type Environment = "I" | "O" | " ";

/** How transmit power must fall as antenna gain grows beyond 6 dBi: dB of gain per dB of power; 0 = not at all. */
export interface AntennaRule {
	/** Point to multipoint. */
	ptmp: number;
	/** Fixed point to point. */
	ptp: number;
}

/** One of the seven parts the 2006 patch divides the spectrum into, with the limits of one domain. */
export interface SubBandRestrictions {
	/** Name: ISM24, TELEC, UNII_1, UNII_2, ETSI, UNII_3 or AAD. */
	name: string;
	/** Band. */
	band: "2.4" | "5";
	/** Lowest channel centre, MHz. */
	minMHz: number;
	/** Highest channel centre, MHz. */
	maxMHz: number;
	/** {@link Modulation} bits. */
	modulations: number;
	/** Highest antenna gain without a loss of power, dBi. */
	maxAntennaGainDbi: number;
	/** Highest intentional radiator power, point to multipoint, dBm. */
	maxIrPtmpDbm: number;
	/** Highest intentional radiator power, point to point, dBm. */
	maxIrPtpDbm: number;
	/** Highest EIRP, point to multipoint, dBm. */
	maxEirpPtmpDbm: number;
	/** Highest EIRP, point to point, dBm. */
	maxEirpPtpDbm: number;
	/** Where it may be used. */
	environment: Environment;
	/** The price of larger antennas. */
	antennaRule: AntennaRule;
}

interface Place {
	band: "2.4" | "5";
	minMHz: number;
	maxMHz: number;
	modulations: number;
}

const fiveGHz = (minMHz: number, maxMHz: number): Place => ({
	band: "5",
	minMHz,
	maxMHz,
	modulations: Modulation.A | Modulation.TURBO,
});

/** The seven sub-bands of the 2006 patch, by channel centres. */
export const subBandPlaces: Readonly<Record<string, Place>> = {
	ISM24: { band: "2.4", minMHz: 2412, maxMHz: 2732, modulations: Modulation.B | Modulation.G | Modulation.TURBO_G },
	TELEC: fiveGHz(5005, 5145),
	UNII_1: fiveGHz(5150, 5245),
	UNII_2: fiveGHz(5250, 5350),
	ETSI: fiveGHz(5355, 5720),
	UNII_3: fiveGHz(5725, 5825),
	AAD: fiveGHz(5830, 6100),
};

/** Whose power rules apply. */
export type PowerGroup = "FCC" | "ETSI" | "MKK" | "APL" | "WORLD";

type Limits = readonly [
	irPtmp: number,
	irPtp: number,
	eirpPtmp: number,
	eirpPtp: number,
	environment: Environment,
	ptmp: number,
	ptp: number,
];

// The patch's own power tables are lost. These are the public rules of 2006: 47 CFR 15.247 and 15.407, EN 300 328,
// EN 301 893, ARIB STD-T66 and STD-T71.
const limits: Readonly<Record<string, Partial<Record<PowerGroup, Limits>>>> = {
	ISM24: {
		FCC: [30, 30, 36, 52, " ", 1, 3],
		ETSI: [20, 20, 20, 20, " ", 1, 1],
		MKK: [20, 20, 22, 22, " ", 1, 1],
		WORLD: [20, 20, 20, 20, " ", 1, 1],
	},
	TELEC: { MKK: [23, 23, 23, 23, " ", 1, 1] },
	UNII_1: {
		FCC: [17, 17, 23, 23, "I", 1, 1],
		ETSI: [23, 23, 23, 23, "I", 1, 1],
		MKK: [23, 23, 23, 23, "I", 1, 1],
		APL: [17, 17, 23, 23, "I", 1, 1],
	},
	UNII_2: {
		FCC: [24, 24, 30, 30, " ", 1, 1],
		ETSI: [23, 23, 23, 23, "I", 1, 1],
		MKK: [23, 23, 23, 23, "I", 1, 1],
		APL: [17, 17, 23, 23, "I", 1, 1],
	},
	ETSI: {
		FCC: [24, 24, 30, 30, " ", 1, 1],
		ETSI: [30, 30, 30, 30, " ", 1, 1],
	},
	UNII_3: {
		FCC: [30, 30, 36, 53, " ", 1, 0],
		APL: [24, 24, 30, 30, " ", 1, 1],
	},
};

/** The largest antenna gain for which no power need be given up, dBi (REG_MAX_ANTENNA). */
export const MAX_ANTENNA_DBI = 6;

/** Gain of the dipole that most cards have, dBi, as the patch rounds it (REG_DIPOLE_ANTENNA_GAIN). */
export const DIPOLE_ANTENNA_DBI = 2;

/** The limits a power group has in a sub-band, or undefined where it has none. */
export function restrictions(name: string, group: PowerGroup): SubBandRestrictions | undefined {
	const place = subBandPlaces[name];
	const found = limits[name]?.[group];
	if (place === undefined || found === undefined) return undefined;
	const [maxIrPtmpDbm, maxIrPtpDbm, maxEirpPtmpDbm, maxEirpPtpDbm, environment, ptmp, ptp] = found;
	return {
		name,
		...place,
		maxAntennaGainDbi: MAX_ANTENNA_DBI,
		maxIrPtmpDbm,
		maxIrPtpDbm,
		maxEirpPtmpDbm,
		maxEirpPtpDbm,
		environment,
		antennaRule: { ptmp, ptp },
	};
}

/** Sub-band a channel centre (MHz) lies in, or undefined. */
export function subBandOf(centreMHz: number): string | undefined {
	return Object.keys(subBandPlaces).find((name) => {
		const { minMHz, maxMHz } = subBandPlaces[name]!;
		return centreMHz >= minMHz && centreMHz <= maxMHz;
	});
}

/**
 * Power a transmitter may feed an antenna: EIRP limit less the antenna's gain, and not above the intentional radiator limit,
 * which itself falls by 1 dB for every 1 dB (or 3 dB, or not at all: {@link AntennaRule}) of gain beyond 6 dBi.
 *
 * @param antennaGainDbi - passive gain. @default 2, a dipole
 * @param link - kind of link. @default "ptmp"
 * @returns dBm
 */
export function transmitPowerDbm(
	subBand: SubBandRestrictions,
	antennaGainDbi: number = DIPOLE_ANTENNA_DBI,
	link: "ptmp" | "ptp" = "ptmp",
): number {
	const ir = link === "ptp" ? subBand.maxIrPtpDbm : subBand.maxIrPtmpDbm;
	const eirp = link === "ptp" ? subBand.maxEirpPtpDbm : subBand.maxEirpPtmpDbm;
	const excess = Math.max(antennaGainDbi - subBand.maxAntennaGainDbi, 0);
	const rule = subBand.antennaRule[link];
	const loss = rule === 0 ? 0 : excess / rule;
	return Math.min(ir - loss, eirp - antennaGainDbi);
}
