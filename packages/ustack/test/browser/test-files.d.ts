declare module "test-files" {
	/** The test files that ask for nothing of Node.js, by name. */
	export const files: Record<string, () => Promise<unknown>>;
}
