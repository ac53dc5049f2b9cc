//! One attempt's share of a backend's load.

use std::rc::Rc;

use super::state::Shard;
use crate::plan::cells::Share;
use crate::units::BackendId;

/// An in-flight slot of a backend, and the tokens that the attempt adds to its load; given back on drop if not before.
pub(crate) struct Lease {
    shard: Rc<Shard>,
    backend: BackendId,
    share: Option<Share>,
}

impl Lease {
    /// Takes an in-flight slot of the backend; `None` if all are taken.
    pub(crate) fn take(
        shard: &Rc<Shard>,
        backend: BackendId,
        prompt_tokens: u64,
        kv_tokens: u64,
    ) -> Option<Self> {
        let plan = &shard.plan;
        let share = plan.backends.take(shard.id, backend, prompt_tokens, kv_tokens)?;
        Some(Self { shard: Rc::clone(shard), backend, share: Some(share) })
    }

    /// The backend whose slot it is, or was.
    pub(crate) fn backend(&self) -> BackendId {
        self.backend
    }

    /// The prompt is prefilled: the first output has come. True the first time. A request that waits may be sent now.
    pub(crate) fn first_token(&mut self) -> bool {
        let (plan, shard) = (&self.shard.plan, self.shard.id);
        let is_first = self.share.as_mut().is_some_and(|share| plan.backends.first_token(shard, share));
        if is_first {
            self.shard.queues.call();
        }
        is_first
    }

    /// The backend has finished the attempt. A request that waits for a slot of it may take this one.
    pub(crate) fn give_back(&mut self) {
        if let Some(share) = self.share.take() {
            self.shard.plan.backends.give_back(self.shard.id, share);
            self.shard.queues.call();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back();
    }
}
