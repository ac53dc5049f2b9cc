//! The families about limits that several gateways share.

use crate::coordinator::Watch;
use crate::observe::prometheus::Page;

/// Nothing with limits that are not shared.
pub(super) fn shared(page: &mut Page, watch: &Watch) {
    let Some(shared) = &watch.settings.shared else { return };
    let status = shared.status();
    for (name, help, value) in [
        ("ringway_shared_up", "1 if Redis took the last turn.", u64::from(status.is_up)),
        (
            "ringway_shared_alone",
            "1 while Redis has been unavailable for so long that leases have ended.",
            u64::from(status.is_alone),
        ),
        ("ringway_shared_gateways", "Gateways that share limits now, this one included.", status.gateways),
    ] {
        page.gauge(name, help).count(&[], value);
    }
    page.gauge("ringway_shared_turn_seconds", "Seconds that the last turn with Redis took.")
        .value(&[], status.turn_us as f64 / 1e6);
    for (name, help, value) in [
        ("ringway_shared_turns_total", "Turns taken with Redis.", status.turns),
        ("ringway_shared_failures_total", "Turns and connections to Redis that failed.", status.failures),
        (
            "ringway_shared_received_total",
            "Amounts of a limit received from other gateways.",
            status.received,
        ),
        ("ringway_shared_given_total", "Amounts of a limit given up for other gateways.", status.given),
        (
            "ringway_shared_short_total",
            "Turns of a limit that had run short here and waited for other gateways.",
            status.short,
        ),
    ] {
        page.counter(name, help).count(&[], value);
    }
}
