import { expect, test } from "vitest";
import { parseListenAddress, remoteAddress } from "../src/debug/listen-address.ts";
import { parseTrace } from "../src/debug/trace-driver.ts";

test("addresses for gdb are this machine's unless said otherwise", () => {
	expect(parseListenAddress("1234")).toEqual({ host: "127.0.0.1", port: 1234 });
	expect(parseListenAddress(":0")).toEqual({ host: "127.0.0.1", port: 0 });
	expect(parseListenAddress("0.0.0.0:99")).toEqual({ host: "0.0.0.0", port: 99 });
	expect(parseListenAddress("[::1]:99")).toEqual({ host: "::1", port: 99 });
	expect(parseListenAddress("unix:/tmp/gdb")).toEqual({ path: "/tmp/gdb" });
	for (const wrong of ["", "unix:", "host", "host:", "1:2:3", "99999"]) {
		expect(() => parseListenAddress(wrong)).toThrow(/expected HOST:PORT, PORT or unix:PATH/);
	}
	expect(remoteAddress({ host: "::1", port: 9 })).toBe("[::1]:9");
	expect(remoteAddress({ host: "127.0.0.1", port: 9 })).toBe("localhost:9");
});

test("traces are lists of what there is", () => {
	expect([...parseTrace("exits,insn")]).toEqual(["exits", "insn"]);
	expect(() => parseTrace("exits,pages")).toThrow(/expected a list of exits, irq, insn/);
});
