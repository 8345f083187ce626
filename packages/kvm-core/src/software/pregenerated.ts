/**
 * The first vCPU's interpreter, deflated, in base64. The package's build puts it here (tsup.config.ts); code that runs
 * from source generates it when it is first needed.
 */
export const pregenerated: string | undefined = undefined;
