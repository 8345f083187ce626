import { describe, expect, it } from "vitest";
import { parsePackages } from "../src/image/apt.ts";

const STANZA = `Package: linux-image-cloud-amd64
Version: 6.1.192-2
Architecture: amd64
Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), libc6:any (>= 2) | other, awk
Description: Linux for cloud
 Version: not a field
Size: 1504
SHA256: ${"ab".repeat(32)}

Package: second
Version: 1
`;

describe("parsePackages", () => {
	it("reads each stanza's fields and the names of what it depends on, and leaves out those that lack something", () => {
		const packages = parsePackages(STANZA);
		expect([...packages.keys()]).toEqual(["linux-image-cloud-amd64"]);
		expect(packages.get("linux-image-cloud-amd64")).toEqual({
			name: "linux-image-cloud-amd64",
			version: "6.1.192-2",
			architecture: "amd64",
			size: 1504,
			sha256: "ab".repeat(32),
			depends: ["linux-image-6.1.0-56-cloud-amd64", "libc6", "awk"],
		});
	});

	it.each(["", "Package: x\n", STANZA.replace("SHA256", "MD5sum"), STANZA.replace("1504", "many")])(
		"has no answer for a stanza that lacks something",
		(text) => expect(parsePackages(text).size).toBe(0),
	);
});
