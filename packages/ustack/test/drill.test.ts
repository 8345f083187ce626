import { describe, expect, test } from "vitest";
import { runScript } from "../src/drill/index.ts";

const OPEN = `
    0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
   +0 bind(3, ..., ...) = 0
   +0 listen(3, 1) = 0
  +.1 < S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>
   +0 > S. 0:0(0) ack 1 <mss 1460,nop,nop,sackOK,nop,wscale 7>
  +.1 < . 1:1(0) ack 1 win 257
   +0 accept(3, ..., ...) = 4
`;

describe("a script", () => {
	test("of a transfer passes", () => {
		expect(
			runScript(
				`${OPEN} +0 write(4, ..., 3000) = 3000\n +0 > P. 1:3001(3000) ack 1\n +.1 < . 1:1(0) ack 3001 win 257\n +0 %{ assert tcpi_unacked == 0 and tcpi_snd_cwnd >= 10, tcpi_unacked }%\n`,
			),
		).toEqual({ ok: true });
	});

	test("three duplicate acknowledgements bring a fast retransmission", () => {
		const text = `${OPEN} +0 write(4, ..., 5000) = 5000
			+0 > P. 1:5001(5000) ack 1
			+.1 < . 1:1(0) ack 1 win 257 <sack 1001:2001,nop,nop>
			+0 < . 1:1(0) ack 1 win 257 <sack 1001:3001,nop,nop>
			+0 < . 1:1(0) ack 1 win 257 <sack 1001:4001,nop,nop>
			+0 > . 1:1001(1000) ack 1
			+0 %{ assert tcpi_ca_state == TCP_CA_Recovery, tcpi_ca_state }%`;
		expect(runScript(text)).toEqual({ ok: true });
	});

	test("an unanswered segment is probed, then sent again after the RTO, doubling", () => {
		const text = `\`sysctl -q net.ipv4.tcp_early_retrans=0\`
			${OPEN} +0 write(4, ..., 1000) = 1000
			+0 > P. 1:1001(1000) ack 1
			+.300 > P. 1:1001(1000) ack 1
			+.600 > P. 1:1001(1000) ack 1`;
		expect(runScript(text)).toEqual({ ok: true });
	});

	test.each([
		["a wrong length", " +0 write(4, ..., 1000) = 1000\n +0 > P. 1:1000(999) ack 1\n", 10, /sent 1000 bytes/],
		["a wrong time", " +0 write(4, ..., 1000) = 1000\n +.2 > P. 1:1001(1000) ack 1\n", 10, /instead of/],
		["nothing sent", " +0 > P. 1:1001(1000) ack 1\n", 9, /nothing was sent/],
		["a wrong flag", " +0 write(4, ..., 1000) = 1000\n +0 > . 1:1001(1000) ack 1\n", 10, /flags/],
		["a wrong result", " +0 write(4, ..., 1000) = 999\n", 9, /expected 999/],
		["a failing assert", " +0 %{ assert tcpi_snd_cwnd == 11, tcpi_snd_cwnd }%\n", 9, /tcpi_snd_cwnd=10/],
		["an unknown setting", " +0 `sysctl -q net.ipv4.tcp_nonsense=1`\n", 9, /no meaning here/],
		["a blocking call", " +0 read(4, ..., 10) = 10\n", 9, /blocks/],
	])("%s fails, with the line", (_name, rest, line, message) => {
		const result = runScript(`${OPEN}${rest}`);
		expect(result.ok).toBe(false);
		expect(result.line).toBe(line);
		expect(result.message).toMatch(message);
	});

	test("settings of the tested machine come before the script's", () => {
		const text = ` 0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
			+0...0 connect(3, ..., ...) = 0
			+0 > S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 10>
			+0 < S. 0:0(0) ack 1 win 1000 <mss 1000>`;
		const sysctls = { "net.ipv4.tcp_timestamps": "0", "net.ipv4.tcp_rmem": "4096 131072 33554432" };
		expect(runScript(text, { sysctls })).toEqual({ ok: true });
		expect(runScript(text, { sysctls: { "net.ipv4.tcp_nonsense": "1" } }).message).toMatch(/no meaning here/);
	});

	test("another connection's packets are not compared", () => {
		const text = `${OPEN} +0 write(4, ..., 1000) = 1000
			+0 > P. 1:1001(1000) ack 1
			+0 close(4) = 0
			+.01 socket(..., SOCK_STREAM, IPPROTO_TCP) = 5
			+0...0.01 connect(5, ..., ...) = 0
			+0 > S 0:0(0) <...>
			+.01 < S. 0:0(0) ack 1 win 1000 <mss 1000>
			+0 > . 1:1(0) ack 1`;
		expect(runScript(text)).toEqual({ ok: true });
	});

	test("a bad option in a script is a failure, not an exception", () => {
		expect(runScript("--local_ip=nonsense\n0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n").ok).toBe(false);
	});

	test("runs alike three times", () => {
		const text = `${OPEN} +0 write(4, ..., 20000) = 20000\n +0 > P. 1:10001(10000) ack 2\n`;
		const results = [1, 2, 3].map(() => JSON.stringify(runScript(text)));
		expect(new Set(results).size).toBe(1);
	});
});
