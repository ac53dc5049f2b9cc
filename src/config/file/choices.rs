//! Keys that take one of a few words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kernel interface for I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring where the machine allows it, else epoll.
    Auto,
    /// io_uring; do not start without it.
    IoUring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Driver::Auto => "auto",
            Driver::IoUring => "io_uring",
            Driver::Epoll => "epoll",
        }
    }
}

/// When the journals are forced to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// The kernel decides.
    Never,
    /// Once a second.
    Interval,
}

/// What remains of a shared limit while Redis is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenGone {
    /// An even share: the limit divided by the number of gateways.
    CappedLocal,
    /// Nothing: requests are refused.
    FailClosed,
}

/// What a 429 of a backend pauses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitScope {
    /// The requested model.
    #[default]
    Model,
    /// All models of the backend.
    Backend,
}

/// The lowest level that is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// An operator has to act.
    Error,
    /// An operator should look: a backend is down.
    Warn,
    /// A backend is up again; reloads, upgrades.
    Info,
    /// Everything: each failed probe.
    Debug,
}

/// What happens to a request with a member that the API of its backend cannot express.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// The member is left out.
    #[default]
    Drop,
    /// The request is refused.
    Refuse,
}
