import type { TcpConfig } from "../tcp/config.ts";

/** Settings of the machine a script speaks of, as far as they have a meaning here. */
export interface DrillSettings {
	/** TCP_NOTSENT_LOWAT's default, in bytes. */
	notSentLowWater: number;
}

/** Settings without an effect here that a script may set all the same. */
const NO_EFFECT =
	/^(net\.ipv4\.(tcp_tso_win_divisor|tcp_min_tso_segs|tcp_fack|tcp_moderate_rcvbuf|tcp_no_metrics_save|tcp_autocorking|tcp_limit_output_bytes|tcp_comp_sack_nr|tcp_invalid_ratelimit|tcp_low_latency|tcp_adv_win_scale|tcp_pacing_\w+|tcp_tw_reuse|tcp_abort_on_overflow|ip_local_port_range|tcp_shrink_window|tcp_ecn_option|tcp_ecn_option_beacon|tcp_ecn_fallback|tcp_retries1|tcp_collapse_max_bytes|tcp_early_demux|tcp_backlog_ack_defer|tcp_max_reordering|tcp_comp_sack_\w+|tcp_plb_\w+|tcp_thin_\w+|tcp_mem|tcp_challenge_ack_limit|tcp_max_syn_backlog|tcp_rfc1337|tcp_stdurg|tcp_max_tw_buckets|tcp_mtu_probe_floor|tcp_probe_\w+|tcp_min_snd_mss|tcp_pingpong_thresh|tcp_reflect_tos|ip_no_pmtu_disc|ip_forward_\w+|tcp_workaround_signed_windows|tcp_app_win)|net\.core\.\w+|net\.mptcp\.\w+)$/;

/**
 * Applies one `name=value`.
 *
 * @returns false when the setting is unknown
 */
export function applySysctl(config: TcpConfig, settings: DrillSettings, name: string, value: string): boolean {
	const key = name.replace(/^\/proc\/sys\//, "").replace(/\//g, ".");
	const numbers = value
		.replace(/^["']|["']$/g, "")
		.trim()
		.split(/\s+/)
		.map(Number);
	const first = numbers[0]!;
	switch (key) {
		case "net.ipv4.tcp_rmem":
			// Half of a buffer is window, the rest overhead.
			config.receiveBuffer = numbers[1]! >> 1;
			config.maxReceiveBuffer = numbers[2]!;
			return true;
		case "net.ipv4.tcp_wmem":
			config.sendBuffer = Math.max(numbers[1]!, 4096);
			config.maxSendBuffer = numbers[2]!;
			return true;
		case "net.ipv4.tcp_timestamps":
			config.timestamps = first !== 0;
			return true;
		case "net.ipv4.tcp_sack":
			config.sack = first !== 0;
			return true;
		case "net.ipv4.tcp_dsack":
			config.dsack = first !== 0;
			return true;
		case "net.ipv4.tcp_window_scaling":
			config.windowScaling = first !== 0;
			return true;
		case "net.ipv4.tcp_syn_retries":
			config.synRetries = first;
			return true;
		case "net.ipv4.tcp_syn_linear_timeouts":
			config.synLinearTimeouts = first;
			return true;
		case "net.ipv4.tcp_synack_retries":
			config.synAckRetries = first;
			return true;
		case "net.ipv4.tcp_retries2":
			config.retries = first;
			return true;
		case "net.ipv4.tcp_orphan_retries":
			config.orphanRetries = first === 0 ? 8 : first;
			return true;
		case "net.ipv4.tcp_frto":
			config.frto = first !== 0;
			return true;
		case "net.ipv4.tcp_recovery":
			config.rack = (first & 1) !== 0;
			return true;
		case "net.ipv4.tcp_early_retrans":
			config.tlp = first >= 3;
			return true;
		case "net.ipv4.tcp_reordering":
			return first === 3;
		case "net.ipv4.tcp_slow_start_after_idle":
			config.slowStartAfterIdle = first !== 0;
			return true;
		case "net.ipv4.tcp_congestion_control":
			if (value !== "cubic" && value !== "reno") return false;
			config.congestion = value;
			return true;
		case "net.ipv4.tcp_ecn":
			config.ecn = first === 0 ? "off" : first === 1 ? "request" : "accept";
			return true;
		case "net.ipv4.tcp_fastopen":
			config.fastOpen = first;
			return true;
		case "net.ipv4.tcp_fastopen_key":
			config.fastOpenKeys = value.split(",").map(fastOpenKey);
			return true;
		case "net.ipv4.tcp_fastopen_blackhole_timeout_sec":
			config.fastOpenBlackholeMs = first * 1000;
			return true;
		case "net.ipv4.tcp_notsent_lowat":
			settings.notSentLowWater = first === 0 ? Number.POSITIVE_INFINITY : first;
			return true;
		case "net.ipv4.tcp_keepalive_intvl":
			config.keepAliveIntervalMs = first * 1000;
			return true;
		case "net.ipv4.tcp_keepalive_probes":
			config.keepAliveProbes = first;
			return true;
		case "net.ipv4.tcp_rto_min_us":
			config.minRtoMs = first / 1000;
			return true;
		case "net.ipv4.tcp_rto_max_ms":
			config.maxRtoMs = first;
			return true;
		case "net.ipv4.tcp_syncookies":
			config.synCookies = first !== 0;
			return true;
		case "net.ipv4.tcp_mtu_probing":
			config.mtuProbing = first === 0 ? "off" : first === 1 ? "onBlackhole" : "always";
			return true;
		case "net.ipv4.tcp_base_mss":
			config.baseMss = first;
			return true;
		case "net.ipv4.tcp_fin_timeout":
			config.finWait2Ms = first * 1000;
			return true;
		case "net.ipv4.tcp_keepalive_time":
			config.keepAliveIdleMs = first * 1000;
			return true;
		default:
			return NO_EFFECT.test(key);
	}
}

/** Four 32-bit words in hexadecimal, each kept little-endian. */
function fastOpenKey(text: string): Uint8Array {
	return Uint8Array.from(
		text.split("-").flatMap((word) => (word.match(/../g) ?? []).reverse().map((pair) => Number.parseInt(pair, 16))),
	);
}

/** What google's `defaults.sh` sets, which nearly every script runs first. */
export function applyGoogleDefaults(config: TcpConfig, settings: DrillSettings): void {
	const set: [string, string][] = [
		["net.ipv4.tcp_rmem", "4096 540000 15728640"],
		["net.ipv4.tcp_wmem", "4096 262144 4194304"],
		["net.ipv4.tcp_timestamps", "1"],
		["net.ipv4.tcp_syn_retries", "5"],
		["net.ipv4.tcp_synack_retries", "5"],
		["net.ipv4.tcp_frto", "2"],
		["net.ipv4.tcp_sack", "1"],
		["net.ipv4.tcp_dsack", "1"],
		["net.ipv4.tcp_congestion_control", "cubic"],
		["net.ipv4.tcp_slow_start_after_idle", "0"],
		["net.ipv4.tcp_early_retrans", "4"],
		["net.ipv4.tcp_recovery", "1"],
		["net.ipv4.tcp_ecn", "0"],
		["net.ipv4.tcp_notsent_lowat", "4294967295"],
		["net.ipv4.tcp_syncookies", "1"],
		["net.ipv4.tcp_fastopen", "0x70403"],
		["net.ipv4.tcp_fastopen_key", "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"],
	];
	for (const [name, value] of set) applySysctl(config, settings, name, value);
}
