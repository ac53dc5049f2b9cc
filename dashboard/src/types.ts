// What the admin API tells, as far as the pages use it.

export interface Reason { level: 'bad' | 'warn'; code: string; words: string }
export interface Backend {
  name: string; provider: string; hosted: boolean; target: string; proxy: string | null; tls: boolean;
  certificate_verified: boolean | null; addresses: string[]; state: string; why: string | null;
  paused_seconds: number | null; health: string; last_probe_failure: string | null; in_flight: number;
  in_flight_max: number | null; pending_tokens: number; models: string[]; requests: number; input_tokens: number;
  cached_tokens: number; output_tokens: number; requests_per_second: number; output_tokens_per_second: number;
  error_share: number | null; cached_share: number | null; ttft_p50: number | null; ttft_p99: number | null;
  traffic_share: number | null;
}
export interface Deployment { model: string; breaker: string; blocked_by: string | null; blocked_seconds: number | null }
export interface BackendDetail extends Backend { step_seconds: number; requests_history: number[]; deployments: Deployment[] }
export interface Model {
  name: string; aliases: string[]; usable: boolean; pool: string[]; fallbacks: string[]; context_length: number | null;
  waiting: number; requests: number; input_tokens: number; cached_tokens: number; output_tokens: number; estimated: number;
  requests_per_second: number; output_tokens_per_second: number; error_share: number | null; cached_share: number | null;
  ttft_p50: number | null; ttft_p99: number | null;
}
export interface Limit { name: string; used: number; max: number; free_in_seconds: number | null }
export interface NearLimit extends Limit { kind: 'key' | 'team'; key: string }
export interface Budget {
  of: string; name: string; unit: 'tokens' | 'money'; per: string; zone: string | null; max: number; used: number; reserved: number;
  start_unix_ms: number; reset_unix_ms: number;
}
export interface Key {
  name: string; team: string | null; tags: string[]; expires_unix_ms: number | null; state: string; source: 'configuration' | 'store';
  public_id: string | null; created_unix_ms: number | null; previous_valid_until_unix_ms: number | null; revoked_unix_ms: number | null;
  disabled: string | null; metadata: Record<string, string>; models: string[] | null; limits: Limit[]; budgets: Budget[];
  in_flight: number; requests: number; failed: number; input_tokens: number; cached_tokens: number; output_tokens: number;
}
export interface Team {
  name: string; keys: number; source: 'configuration' | 'store'; limits: Limit[]; budgets: Budget[]; in_flight: number; requests: number;
  input_tokens: number; output_tokens: number;
}
export interface Overview {
  at_unix_ms: number; node: string; version: string; driver: string; uptime_seconds: number; generation: number;
  state: 'ok' | 'degraded' | 'down' | 'starting' | 'draining'; sentence: string; since_unix_ms: number; reasons: Reason[];
  window_seconds: number; requests_per_second: number; input_tokens_per_second: number; cached_tokens_per_second: number;
  output_tokens_per_second: number; refused_share: number | null; error_share: number | null;
  errors: { client: number; backend: number; gateway: number }; ttft_p50: number | null; ttft_p99: number | null;
  in_flight: number; streams: number; queued: number; connections: number;
  totals: { since_unix_ms: number; requests: number; input_tokens: number; cached_tokens: number; output_tokens: number; refused: number };
  counts: { models: number; backends: number; backends_ok: number; keys: number; shards: number };
  keys_required: boolean; models: Model[]; backends: Backend[]; limits: NearLimit[];
}
export interface Second {
  at: number; requests: number; refused: number; client_errors: number; backend_errors: number; gateway_errors: number;
  input_tokens: number; cached_tokens: number; output_tokens: number; in_flight: number;
  ttft_p50: number | null; ttft_p99: number | null;
}
export interface Series { name: string; values: number[] }
export interface History {
  seconds: { [K in keyof Second]?: Second[K][] };
  step_seconds: number; at: number; bands: number[]; columns: number[][]; models: Series[];
}
export interface Row {
  number: number; at_unix_ms: number; id: string; key: string | null; model: string | null; fallback_for: string | null;
  backend: string | null; api: string; status: number; reason: string | null; side: string | null; stream: boolean;
  attempts: number; input_tokens: number | null; cached_tokens: number | null; output_tokens: number | null;
  reasoning_tokens: number | null; estimated: boolean; ttft: number | null; duration: number;
}
export interface RowDetail extends Row {
  client: string | null; shard: number; request_bytes: number; response_bytes: number; overhead: number;
  explain: { what: string; fix: string } | null;
}
export type Role = 'owner' | 'admin' | 'viewer' | 'auditor';
export interface Session {
  who: 'token' | 'session' | 'loopback'; name: string | null; role: Role; team: string | null; version: string; node: string; csrf: string | null;
  client_url: string | null; keys_required: boolean;
}
export interface Tick {
  overview: Overview; second: Second | null; column: number[] | null; models: Series[] | null; requests: Row[]; more: number;
}
