/** Memory and processors that a guest has at most: what one WebAssembly memory holds, and the software engine's limit. */
export const MOST_MEMORY_MIB = 3072;
export const MOST_CPUS = 8;
