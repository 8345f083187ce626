/** Payloads made once by the tools that kernel builds use, for machines that lack those tools. */

function bytes(base64: string): Uint8Array {
	return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

/** What {@link X86_XZ} holds: 600 bytes thick with branch opcodes and operands that look like addresses. */
export function branchyBytes(count = 600): Uint8Array {
	let state = 12345;
	return Uint8Array.from({ length: count }, () => {
		state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
		const value = state >> 16;
		return [0xe8, 0xe9, 0x00, 0xff][value % 8] ?? (value >> 3) & 0xff;
	});
}

/** `xz --check=crc32 --x86 --lzma2=dict=32MiB` */
export const X86_XZ: Uint8Array = bytes(
	"/Td6WFoAAAFpIt42AgEEACEBGgAByYCz4AJXAkRdAD24FYACLKIiP8V965iO3refstKEp7fpNH2Nspbhe34jDdM4xfH82AdsZcKgt84zZC6+Wu" +
		"KQvVhWPYn7mQGvtCpq5FWVBldNbPRdBzB7oVTAKpWuqn/aeC5LgTxgzdo654vH37Q1tZnlFppSKyKZrE32R4Rd9I9adJKrgHTxkGdIvj6U5fL2" +
		"AcawVxy6e6xI+mn5vmPSw4xYuNcoBacTJQ9+LC3aZAWa95J4dolxZ5OpePZdQEWWXqucMc1vB3oQiEK6kPRYmEBh350zOvEUjHlWohkImhdhJi" +
		"BRwGPjhYnFBj4woIKAHSFj/PGSrmk22W6d2acWY/dB8g8uC2kZT52o1ObgWDb3w/k04+QypVt08ZVUlITME18oufXy+IZEbIiZjmkRx1xx9nzd" +
		"coPFgebBLxZmaPE82qKEmfb3n96Rq8vonyKoh5iIyhM0ccLM7Rp7ybtg2Zqna7fSuKJ6V6Jd0Ibo2RocdH5390PMQNJtjOcMNsEFKJ1+M/Sn0s" +
		"1mMvRovVHywUWJ2F5de7g0rp11mLAfcbiqjSdZGcJbvY3Jlm5NgRvRPNuvca8gtcZZoJfBavNWDFafJhbfO8Q4wHLxA9Xbv91QUkADpSOCOXml" +
		"OFVSSEQ8wOBx2LewiRYL5kk7PyUYVrYmtdvmJxCLVkqO3zzDvgqSwJ+VhPkeGJ4Bsd/pg9eRPJe7rUO4QwYa9yeuXiGOYmRWdHWdC7wdHK7kBs" +
		"hZ2kEqZermhDSmPbsoCkgMB0DvxFON3i5SXO8IRsuLFYAAFl6/qQAB3ATYBAAA45fAtz4wDYsCAAAAAAFZWg==",
);

/** `zstd -19` of "compressible " two hundred times. */
export const TEXT_ZSTD: Uint8Array = bytes("KLUv/QRorQAAaGNvbXByZXNzaWJsZSABABgCf34BwMGVmw==");
