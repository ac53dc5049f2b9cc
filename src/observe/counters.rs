//! Counters and gauges of one shard: written by that shard, read by anybody.
#![allow(rustdoc::broken_intra_doc_links)] // HELP names sections of the configuration

use crossbeam_utils::CachePadded;

use super::bump;
use super::record::Record;
use super::usage::{Usage, UsageCells};
use crate::error::FaultKind;
use crate::sync::{AtomicU64, Ordering};

/// Whether a number only grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Only grows.
    Count,
    /// Goes up and down.
    Gauge,
}

macro_rules! counters {
    ($($name:ident $form:ident $metric:literal $help:literal,)*) => {
        /// What a shard counts. The numbers index [`ShardNumbers`]; the doc of each is its help text.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Counter { $(#[doc = $help] $name,)* }

        impl Counter {
            /// Every counter, in order.
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];

            /// Its name in Prometheus form.
            pub const fn metric(self) -> &'static str { match self { $(Counter::$name => $metric,)* } }

            /// What it counts, in one sentence.
            pub const fn help(self) -> &'static str { match self { $(Counter::$name => $help,)* } }

            /// Whether it only grows.
            pub const fn form(self) -> Form { match self { $(Counter::$name => Form::$form,)* } }
        }
    };
}

counters! {
    ConnectionsAccepted Count "ringway_connections_accepted_total" "Client connections accepted.",
    ConnectionsClosed Count "ringway_connections_closed_total" "Client connections closed.",
    ConnectionsRefused Count "ringway_connections_refused_total" "Client connections above connections_max of the shard: closed, some of them after a 503.",
    ConnectionsSpilled Count "ringway_connections_spilled_total" "Client connections handed to a less loaded shard at accept.",
    ConnectionsActive Gauge "ringway_connections_active" "Open client connections.",
    AcceptFailures Count "ringway_accept_failures_total" "Accepts that failed, for example because there was no free file descriptor.",
    ProxyHeadersRefused Count "ringway_proxy_headers_refused_total" "Connections closed on a listener with proxy_protocol: not from a trusted proxy, or without a valid PROXY header.",
    KeepAliveExpired Count "ringway_keep_alive_expired_total" "Idle client connections closed after [timeouts] keep_alive.",
    TlsHandshakes Count "ringway_tls_handshakes_total" "TLS handshakes completed with clients.",
    TlsFailures Count "ringway_tls_failures_total" "TLS handshakes with clients that failed.",
    ExchangesActive Gauge "ringway_exchanges_active" "Requests in flight.",
    StreamsActive Gauge "ringway_streams_active" "Streamed responses in flight.",
    EventsRelayed Count "ringway_events_relayed_total" "Stream events relayed.",
    EventsInPieces Count "ringway_events_in_pieces_total" "Stream events longer than [limits] event, which are passed on in pieces.",
    StreamsStopped Count "ringway_streams_stopped_total" "Streams stopped because a limit on tokens or a budget was used up.",
    SoftLimits Count "ringway_soft_limits_total" "Requests that met a soft limit of a budget: warned, throttled or sent to another model.",
    StreamsResumed Count "ringway_streams_resumed_total" "Times that a stream which its backend cut went on at another one.",
    StreamsHeld Count "ringway_streams_held_total" "Times that a stream waited for tokens of a limit or a budget.",
    StopsLate Count "ringway_stops_late_total" "Streams that could not be told at once to stop: they stop at their next event.",
    Heartbeats Count "ringway_heartbeats_total" "Heartbeats sent to clients whose streams were silent.",
    GuardReleases Count "ringway_guard_releases_total" "Times that a stream was silent for [timeouts] guard_hold and what content rules held back of it was sent.",
    CacheHits Count "ringway_cache_hits_total" "Responses served from the response cache.",
    CacheShared Count "ringway_cache_shared_total" "Responses that were shared with an identical request in flight.",
    CacheMisses Count "ringway_cache_misses_total" "Requests that the response cache had no response for.",
    CacheBypassed Count "ringway_cache_bypassed_total" "Requests to a gateway with [cache] that may not be served from it: by their model, body, or cache-control.",
    CacheStored Count "ringway_cache_stored_total" "Responses put into the response cache.",
    CacheEvicted Count "ringway_cache_evicted_total" "Responses removed from the response cache because it was full.",
    CacheTokensSaved Count "ringway_cache_tokens_saved_total" "Tokens, input and output, of responses that no backend had to compute again.",
    CacheBytes Gauge "ringway_cache_bytes" "Memory of the response cache.",
    ResponsesConverted Count "ringway_responses_converted_total" "Responses converted to the form that the client asked for: a body into a stream, vectors into base64.",
    IdsUnchanged Count "ringway_ids_unchanged_total" "Responses whose id was not sealed because the response or the id is too long: later requests may not find them.",
    BackendDials Count "ringway_backend_dials_total" "Connections opened to backends.",
    BackendDialFailures Count "ringway_backend_dial_failures_total" "Connections to backends that could not be opened.",
    BackendReused Count "ringway_backend_reused_total" "Requests sent over a kept backend connection.",
    BackendStale Count "ringway_backend_stale_total" "Kept backend connections that were already closed when used.",
    BackendIdle Gauge "ringway_backend_idle" "Idle backend connections.",
    RetriesStale Count "ringway_retries_stale_total" "Requests sent again because the backend had closed the kept connection.",
    RetriesFailover Count "ringway_retries_failover_total" "Requests sent to another backend because one failed or refused.",
    RetriesWaited Count "ringway_retries_waited_total" "Requests sent to the same backends again after [timeouts] retry_wait.",
    Fallbacks Count "ringway_fallbacks_total" "Exchanges moved to a fallback model because the model could not respond.",
    QueueWaiting Gauge "ringway_queue_waiting" "Requests waiting in a model's queue.",
    QueueEntered Count "ringway_queue_entered_total" "Requests that entered a model's queue.",
    QueueFull Count "ringway_queue_full_total" "Requests refused because the model's queue was full.",
    PrefixTokens Count "ringway_prefix_tokens_total" "Prompt tokens, by estimate, of requests that were routed by their prefix.",
    PrefixTokensMatched Count "ringway_prefix_tokens_matched_total" "Of those, tokens that the chosen backend was expected to have in its cache.",
    PrefixTokensReported Count "ringway_prefix_tokens_reported_total" "Prompt tokens, by the backend's count, of requests that were routed by their prefix and whose usage was reported.",
    PrefixTokensExpected Count "ringway_prefix_tokens_expected_total" "Of those, tokens that the backend was expected to have in its cache.",
    PrefixTokensCached Count "ringway_prefix_tokens_cached_total" "Of those, tokens that the backend did have in its cache, by its own count.",
    PrefixNotesLost Count "ringway_prefix_notes_lost_total" "Placements of prompts that the prefix table never heard of, since a shard's ring was full.",
    Hedges Count "ringway_hedges_total" "Second backends asked because the first had not begun to respond in time.",
    HedgesWon Count "ringway_hedges_won_total" "Of those, backends that responded first.",
    RetriesOverBudget Count "ringway_retries_over_budget_total" "Retries not made because the retry budget was empty.",
    JwtsVerified Count "ringway_jwts_verified_total" "JSON Web Tokens whose signature and claims were checked and valid.",
    JwtsRecognised Count "ringway_jwts_recognised_total" "Requests with a JSON Web Token that was verified before.",
    JwtsRefused Count "ringway_jwts_refused_total" "Requests refused because of their JSON Web Token: invalid, expired, or of an issuer whose keys could not be read.",
    BuffersAllocated Count "ringway_buffers_allocated_total" "Buffers taken from the allocator.",
    BytesFromClients Count "ringway_bytes_from_clients_total" "Bytes read from clients.",
    BytesToClients Count "ringway_bytes_to_clients_total" "Bytes written to clients.",
    BytesFromBackends Count "ringway_bytes_from_backends_total" "Bytes read from backends.",
    BytesToBackends Count "ringway_bytes_to_backends_total" "Bytes written to backends.",
    Panics Count "ringway_panics_total" "Exchanges that failed because of a panic.",
    RecordsDropped Count "ringway_records_dropped_total" "Records of finished exchanges lost because the access log or the list of recent requests was too slow.",
    PlanGeneration Gauge "ringway_shard_plan_generation" "Number of the plan that the shard uses for new requests.",
    Ticks Count "ringway_ticks_total" "Shard ticks.",
    TicksLate Count "ringway_ticks_late_total" "Shard ticks that were more than one period late.",
}

/// The numbers of one shard, behind an `Arc`.
///
/// Every method that changes a number is for the owning shard's thread alone: it loads, adds and stores without
/// a locked instruction, so a second writer would lose counts (it cannot corrupt anything). Reading is for all.
pub struct ShardNumbers {
    /// By `Counter`.
    counters: CachePadded<[AtomicU64; Counter::ALL.len()]>,
    /// By `error::FaultKind`.
    faults: [AtomicU64; FaultKind::ALL.len()],
    /// Everything settled, also without key, model or backend.
    all: UsageCells,
}

impl Default for ShardNumbers {
    fn default() -> Self {
        Self {
            counters: CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0))),
            faults: std::array::from_fn(|_| AtomicU64::new(0)),
            all: UsageCells::default(),
        }
    }
}

impl ShardNumbers {
    /// Adds to a counter.
    pub fn add(&self, counter: Counter, count: u64) {
        bump(&self.counters[counter as usize], count);
    }

    /// Adds one to a counter or a gauge.
    pub fn inc(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Takes one from a gauge.
    pub fn dec(&self, gauge: Counter) {
        debug_assert!(gauge.form() == Form::Gauge, "{gauge:?} only grows");
        let cell = &self.counters[gauge as usize];
        let value = cell.load(Ordering::Relaxed);
        debug_assert!(value > 0, "{gauge:?} would fall below zero");
        cell.store(value.saturating_sub(1), Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: Counter, value: u64) {
        debug_assert!(gauge.form() == Form::Gauge, "{gauge:?} only grows");
        self.counters[gauge as usize].store(value, Ordering::Relaxed);
    }

    fn fault(&self, kind: FaultKind) {
        bump(&self.faults[kind as usize], 1);
    }

    /// Adds a settled exchange.
    pub fn settle(&self, record: &Record) {
        self.all.settle(record);
        if let Some(kind) = record.fault {
            self.fault(kind);
        }
    }

    /// The value of a counter or gauge.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// How often a fault happened.
    pub fn faults(&self, kind: FaultKind) -> u64 {
        self.faults[kind as usize].load(Ordering::Relaxed)
    }

    /// Everything settled by this shard.
    pub fn all(&self) -> Usage {
        self.all.read()
    }
}

#[cfg(all(test, any(ringway_loom, ringway_shuttle)))]
mod interleavings;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::observe::record::tests::sample;

    #[test]
    fn the_numbers_of_the_counters_index_their_list() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
    }

    #[test]
    fn metric_names_are_unique_and_counts_end_in_total() {
        let names: HashSet<_> = Counter::ALL.iter().map(|counter| counter.metric()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        for counter in Counter::ALL {
            assert!(counter.metric().starts_with("ringway_"));
            assert_eq!(counter.metric().ends_with("_total"), counter.form() == Form::Count, "{counter:?}");
        }
    }

    #[test]
    fn a_gauge_returns_to_zero() {
        let numbers = ShardNumbers::default();
        numbers.inc(Counter::StreamsActive);
        numbers.inc(Counter::StreamsActive);
        numbers.dec(Counter::StreamsActive);
        assert_eq!(numbers.get(Counter::StreamsActive), 1);
        numbers.set(Counter::StreamsActive, 0);
        assert_eq!(numbers.get(Counter::StreamsActive), 0);
    }

    #[test]
    fn a_record_counts_for_all_and_for_its_fault() {
        let numbers = ShardNumbers::default();
        numbers.settle(&Record { fault: Some(FaultKind::BackendCut), ..sample() });
        assert_eq!((numbers.all().requests[0], numbers.all().tokens), (1, [100, 64, 11, 5]));
        assert_eq!(numbers.faults(FaultKind::BackendCut), 1);
        assert_eq!(numbers.faults(FaultKind::BackendFailed), 0);
    }
}
