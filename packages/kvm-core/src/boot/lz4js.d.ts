declare module "lz4js" {
	interface Lz4 {
		/** Decompresses one raw block of `src` into `dst` from `dIndex` on; returns the index after the last byte. */
		decompressBlock(src: Uint8Array, dst: Uint8Array, sIndex: number, sLength: number, dIndex: number): number;
		/** Compresses one raw block; 0 when it does not shrink. */
		compressBlock(src: Uint8Array, dst: Uint8Array, sIndex: number, sLength: number, hashTable: Uint32Array): number;
	}
	const lz4: Lz4;
	export default lz4;
}
