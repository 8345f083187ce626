import { describe, test } from "vitest";
import { conformance } from "./conformance.ts";
import { engines } from "./engines.ts";

for (const { name: engine, kvm, reason, modes } of await engines()) {
	describe.skipIf(kvm === undefined)(
		`the ${engine} engine keeps API 12${reason === undefined ? "" : ` (${reason})`}`,
		() => {
			for (const { name, needs, check } of conformance) {
				const lacks = needs !== undefined && modes?.[needs] === false;
				test.skipIf(lacks)(lacks ? `${name} (this host's KVM cannot run guests with ${needs})` : name, () =>
					check(kvm!),
				);
			}
		},
	);
}
