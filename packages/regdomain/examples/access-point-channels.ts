// Which channels may my access point use in DE at 80 MHz, and why not 149 in JP?
import { createChannelDefinition, domainOf, explainChannel, findChannels, renderExplanation } from "@x/regdomain";
import { bundledDatabase } from "@x/regdomain/data";

const germany = domainOf(bundledDatabase(), "DE");
for (const { channel, maxEirpMbm, cacMs, indoorOnly } of findChannels(germany, { band: "5", widthMHz: 80 })) {
	const radar = cacMs > 0 ? `, listen ${cacMs / 1000} s for radar first` : "";
	console.log(`DE ${channel}: ${maxEirpMbm / 100} dBm${radar}${indoorOnly ? ", indoors only" : ""}`);
}

const japan = domainOf(bundledDatabase(), "JP");
console.log(renderExplanation(explainChannel(japan, createChannelDefinition(5745, 80))));
