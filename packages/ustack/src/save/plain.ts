import { StackError } from "../errors.ts";

/** What JSON and structured clones both carry. */
export type Plain = null | boolean | number | string | Plain[] | PlainFields;

/** An object of nothing else. */
export interface PlainFields {
	[key: string]: Plain;
}

const CHUNK = 8192;

/** Bytes as base64 text. */
export function bytesToText(bytes: Uint8Array): string {
	let text = "";
	for (let at = 0; at < bytes.length; at += CHUNK) text += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
	return btoa(text);
}

/** The bytes of base64 text. */
export function textToBytes(text: string): Uint8Array {
	const raw = atob(text);
	const bytes = new Uint8Array(raw.length);
	for (let i = 0; i < bytes.length; i++) bytes[i] = raw.charCodeAt(i);
	return bytes;
}

function toPlain(value: unknown): Plain | undefined {
	if (typeof value === "number") return Number.isFinite(value) ? value : { number: String(value) };
	if (typeof value === "string" || typeof value === "boolean" || value === null) return value;
	if (value instanceof Uint8Array) return { bytes: bytesToText(value) };
	if (Array.isArray(value)) return value.map((entry) => toPlain(entry) ?? null);
	return typeof value === "object" ? fieldsOf(value) : undefined;
}

/** An object's plain fields, those of objects in it included; functions and what is undefined are left out. */
export function fieldsOf(object: object, skip: ReadonlySet<string> = new Set()): PlainFields {
	const fields: PlainFields = {};
	for (const [key, value] of Object.entries(object)) {
		const plain = skip.has(key) ? undefined : toPlain(value);
		if (plain !== undefined) fields[key] = plain;
	}
	return fields;
}

function isFields(value: unknown): value is PlainFields {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value a plain one stands for. */
export function fromPlain(value: Plain): unknown {
	if (Array.isArray(value)) return value.map(fromPlain);
	if (!isFields(value)) return value;
	if (typeof value["number"] === "string") return Number(value["number"]);
	if (typeof value["bytes"] === "string") return textToBytes(value["bytes"]);
	return assignFields({}, value);
}

/**
 * Puts fields back into an object that {@link fieldsOf} took them from, or one made alike.
 *
 * @throws StackError `ERR_BAD_STATE` for a key that would reach what other objects share
 */
export function assignFields<T extends object>(target: T, fields: PlainFields): T {
	const object = target as Record<string, unknown>;
	for (const [key, value] of Object.entries(fields)) {
		if (key === "__proto__")
			throw new StackError("ERR_BAD_STATE", "the state has a field __proto__: none that was saved has");
		const known = Object.hasOwn(object, key) ? object[key] : undefined;
		// An object there has a class; what it is made of is put into it.
		if (isFields(value) && isFields(known) && !(known instanceof Uint8Array)) assignFields(known, value);
		else object[key] = fromPlain(value);
	}
	return target;
}
