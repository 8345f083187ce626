// What will my laptop do when it roams from US to JP?
import { bundledDatabase } from "@x/regdomain/data";
import { createRegulatoryCore, type RegulatoryEvent } from "@x/regdomain/hints";

const core = createRegulatoryCore({ database: bundledDatabase(), radios: [{ name: "wlan0" }] });
const journey: RegulatoryEvent[] = [
	{ kind: "user", alpha2: "US" },
	{ kind: "country-element", radio: "wlan0", alpha2: "JP" },
	{ kind: "user", alpha2: "DE" },
	{ kind: "disconnect", radio: "wlan0" },
];
for (const event of journey) {
	for (const { what, subject, why } of core.apply(event)) console.log(`${what}: ${subject} (${why})`);
	const channel14 = core.radio("wlan0").channels.find(({ channel, band }) => band === "2.4" && channel === 14)!;
	console.log(`  now ${core.state.global.alpha2}; channel 14 ${(channel14.flags & 1) === 0 ? "allowed" : "disabled"}`);
}
