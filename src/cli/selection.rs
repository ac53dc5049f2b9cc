//! Which requests of the ledger a command is about.

use super::time::moment;

/// A time, and names.
#[derive(clap::Args, Clone)]
pub(super) struct Selection {
    /// Requests that started since: 24h, 7d, 2026-11-01, 2026-11-01T08:30:00Z [default: all; of sums: 30d]
    #[arg(long, value_parser = moment)]
    pub(super) since: Option<u64>,
    /// Requests that started before
    #[arg(long, value_parser = moment)]
    pub(super) until: Option<u64>,
    /// Only this key's
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Only this team's
    #[arg(long)]
    pub(super) team: Option<String>,
    /// Only this model's
    #[arg(long)]
    pub(super) model: Option<String>,
    /// Only this backend's
    #[arg(long)]
    pub(super) backend: Option<String>,
}
