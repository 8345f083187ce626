import { fromBase64, parseCertificate, type TrustedKey } from "./keys.ts";

// Public certificates: wens and sforshee are compiled into Linux 7.2 (net/wireless/certs), benh@debian.org into Debian's.
const certificates: readonly (readonly [string, string])[] = [
	[
		"wens",
		"MIICpzCCAY8CFGHAOGUaq9z5S9Csf/BsckjbGMYAMA0GCSqGSIb3DQEBCwUAMA8xDTALBgNVBAMMBHdlbnMwIBcNMjMxMjAxMDc0MTE0WhgPMjEyMzEx" +
			"MDcwNzQxMTRaMA8xDTALBgNVBAMMBHdlbnMwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQCpeix4TacZLTJSoC5s74h/FcW2aVQWQxR5U7eu" +
			"iP7At11Hjhrh77OQhtrTZIEfzl2eS25YAj6yb15CR0H0LLio1KrADuZI8KjOywiuN6/2QDnLVW9bT4U05mkQUHJeTp1Mujg2Dc5zONcnAip5A+Gsz7An" +
			"hYaTF6vsQnc3ZYpEy9ZCk5IT4zlFxW4ASn/LQhcrJYy4FzsVNlneQs4h5rbHbl4mH/eKV56llnK3AjLrBytz4k9mWJrrDwe2q1CLw48X+gqZwhYlvy1r" +
			"GqrmPl/rbZtdTUKDLTm4yazbOpFQ37uxdm0Vc/3G5mtxnmc2IoN5sda4hFKvllvDYwJOeHBXAgMBAAEwDQYJKoZIhvcNAQELBQADggEBACQo7iJ0f3z6" +
			"bB+zGNHCPX0pQoitgqWxigXQ7FyRIPaC/dVnYF8x9b2IkXC9uLmMiP5TyVSbQ8R6Q3Rr3bCxOzNFRnijHO9UaPeFnORRbwavgdsqe3tvqJxn2MvJkUAA" +
			"rtmhn92mQw4oe6ob6YTbdmRCcMnA666EERZoToSefpI27hw7CGPreYQVCJ2vyJrHNNOUS9Eol77RRXXcNWKsHR+3txWHyJjAJDFWje3bBsZGv0ttptWr" +
			"zGD85Te2U31YlalWx/fuw6B292VNU/r/X3YzWgj6hpJaE/oa/PIbjH9Cbbd+t7Twx4O7ooEDLdQqYz/3MS5AM1xGvJvBBaVFTsM=",
	],
	[
		"sforshee",
		"MIICpDCCAYwCCQCyjd9HrvnOpzANBgkqhkiG9w0BAQsFADATMREwDwYDVQQDDAhzZm9yc2hlZTAgFw0xNzEwMDYxOTQwMzVaGA8yMTE3MDkxMjE5NDAz" +
			"NVowEzERMA8GA1UEAwwIc2ZvcnNoZWUwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQC1QOOcKIQ5A/I512YsQTgVrH6lg3ElfpB8aN1vP9nX" +
			"WTiffGpSwgMqLX5m9B6zEnAgW9SXMj1xizsbCBcUa2HEV4uWFhz9JNULCfloEYT7ylEM0UUZ2hBEitn+dqn9YC0YCyiVsi3qiJi40VYh8FMf8QJv6Uab" +
			"k18okA+sNvpoI3FXVvbM0999Ktkbc0XruieF73p/pcuAxzA20lPu7Kwe5zHxNqKcY8ZlW38ldWih6tN+AFyaXtggGDJ3BykSZh42c+eXBEE3sbFyK/Sh" +
			"KSB8lnkLK9DY3shsP5P7xe54UhEVG3r24miZ5/tGFoTjx6Hm4NJG1eHEX6Bm9NrE/5UdAgMBAAEwDQYJKoZIhvcNAQELBQADggEBAIcD2vKCwt2vfEQv" +
			"htNfTJNIuf4HF7sh9yUjTqoiDBa5c66dRnx12cNJV0e/M7eX7PVAdcBGIvCgXZx5E6H/uKMve44GP8i25Goo8jRcIz8ywOatD6zPVXRHc9MBhbcLIlYk" +
			"fZ8JqQ6GnjdbnG0C2YzIUGriWfMWBuqyQrVY/rrRgVca77I4iFj2qsQui1on5KXopMpnXKxyZ8NvE8MtNXnXiuf11CEwStX2o9l5VvIPEPd90FGTL0f4" +
			"fUsKhFUSCn1OOx8rL/wos2k04YCAu+KvudYw8R1UhyOZn1EDTEV9AmVzq/3PlMwNOmD9PBQvFjOpIR/LULGPA+6gZqkWeRQ=",
	],
	[
		"benh@debian.org",
		"MIICvTCCAaUCFFd+Ahy5gODoIIIbp7VLSWG4tPrfMA0GCSqGSIb3DQEBCwUAMBoxGDAWBgNVBAMMD2JlbmhAZGViaWFuLm9yZzAgFw0yMDAxMzAxMzI2" +
			"MTNaGA8yMTIwMDEwNjEzMjYxM1owGjEYMBYGA1UEAwwPYmVuaEBkZWJpYW4ub3JnMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAneF3oCSg" +
			"1XllOgeQyfalph+EHCMHS0+lA8YP91TVi355gQDS6T30l/6EzVW9yY8hV4gGOZBmQSZ5LMo/lYcBES8vsOELQ/xfL09nBNtNt3JN0cV2c02RabBxFzbq" +
			"qwo6zZWbdhuOIRePxQK/JMfAQLE7xIB8caVR3Pc6WH+xB4GKENH2kxdx4PpReRXU14+tvW844SZ9vPA+gIm07I5pkNuXivAjI4OCO2qxrOvnmXQqNY6p" +
			"ZP1GnujlSGExbub8GRhUwxtP1gBEhxw3Rer1ycsPDFXsz2rCRSYjojFSTe4hff1YcsIoxY6p0O4Bdwil8CIrR3krz5pGtY/9ZKK17QIDAQABMA0GCSqG" +
			"SIb3DQEBCwUAA4IBAQAgRP6pnt2b6s4ldQjwK1P3WjYcSiN/0EE8Eiu5gE6KFV0fQKcmKDLDWwYoLT0ICR4B6WfjM+YVRTnuF4PbQv9/NfSsFtu6uBog" +
			"IUH/85L/ZW4pFtC/jd9ILHM2fyLm7ni0Y4MOOeuvECqQ0/zmw4+XW3a/m/WY0lMGi/ikBJsbYmqdrOZLDcnXVmMVATiMvvFExDgn4M9y1j3k90s70rEM" +
			"1YNtHhAEaSmIaeB919u0WXKNnTxDr8Z9tyEVUorpm2su6Cc8Py2E+5oiCp9qJeY55HRztipwqh3LzNSgGyZxYwTFEiFIupInBqg+baFDpdIq98rEJuhb" +
			"H+TcidwfBHk/",
	],
];

/**
 * The signers of regulatory.db: wens (Chen-Yu Tsai, since 2024) and sforshee (Seth Forshee, before), both built into the
 * kernel, and benh@debian.org (Ben Hutchings), built into Debian's kernels.
 */
export function knownSigners(): TrustedKey[] {
	return certificates.map(([name, base64]) => {
		const certificate = parseCertificate(fromBase64(base64));
		return { name, publicKey: certificate.publicKey, certificate };
	});
}
