/** Comparisons of 32-bit sequence numbers modulo 2^32 (RFC 9293 section 3.4). Numbers are kept as signed integers. */

export function before(x: number, y: number): boolean {
	return ((x - y) | 0) < 0;
}

export function after(x: number, y: number): boolean {
	return ((y - x) | 0) < 0;
}

/** `x - y` as a distance, right while it is below 2^31. */
export function distance(x: number, y: number): number {
	return (x - y) | 0;
}
