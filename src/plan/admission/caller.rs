//! One of those whose limits an exchange takes from: its key, the key's team, its end user.

use super::wanted::{OUTPUT_MIN, Taken, Wanted, share};
use crate::error::{Fault, FaultKind};
use crate::plan::{Key, Plan};
use crate::policy::limits::bucket::{Rate, Room, Wait};
use crate::policy::limits::budget::Unit;
use crate::policy::limits::caller::{CallerCells, CallerLimits};
use crate::policy::limits::users::Pin;
use crate::sync::Ordering;
use crate::units::{KeyId, Nanos};

/// What is left of the tightest of several limits: the `x-ratelimit-*` lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// The limit.
    pub per_minute: u64,
    /// What is left of it.
    pub room: Room,
}

/// Whose limits they are.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    pub(super) limits: &'a CallerLimits,
    pub(super) cells: &'a CallerCells,
}

/// The end user of an exchange, as long as its place in the table is kept.
pub(super) struct EndUser {
    pub(super) name: Box<str>,
    pub(super) pin: Pin,
}

/// A key, its team, its end user.
pub(super) const CALLERS_MAX: usize = 3;

/// Those whose limits an exchange of this key takes from: the key, then its team, then its end user.
pub(super) fn callers<'a>(
    plan: &'a Plan,
    key: KeyId,
    user: Option<&'a EndUser>,
) -> impl Iterator<Item = Caller<'a>> {
    let row: &Key = plan.key(key);
    let own = Caller { kind: "key", name: &row.name, limits: &row.grant.limits, cells: plan.keys.cells(key) };
    let team = row.team.map(|team| {
        let row = plan.teams.row(team);
        Caller { kind: "team", name: &row.name, limits: &row.limits, cells: plan.teams.cells(team) }
    });
    let user = user.zip(plan.users.as_ref()).map(|(user, rules)| Caller {
        kind: "end user",
        name: &user.name,
        limits: &rules.limits,
        cells: &rules.table.cells(user.pin).caller,
    });
    std::iter::once(own).chain(team).chain(user)
}

impl Caller<'_> {
    pub(super) fn enter(&self, now: Nanos) -> Result<Option<Left>, Fault> {
        let most = self.limits.in_flight_max;
        if !self.cells.in_flight.try_enter(most) {
            if !self.limits.shadow.in_flight || !self.cells.in_flight.try_enter(u32::MAX) {
                return Err(self.too_many_in_flight());
            }
            self.note_shadow(2);
        }
        let Some(rate) = &self.limits.requests else { return Ok(None) };
        match self.cells.requests.take(rate, 1, now) {
            Ok(room) => Ok(Some(Left { per_minute: rate.per_minute, room })),
            Err(_) if self.limits.shadow.requests => {
                self.cells.requests.settle(rate, 0, 1, now);
                self.note_shadow(0);
                Ok(None)
            }
            Err(wait) => {
                self.cells.in_flight.leave();
                Err(self.exceeded(wait, FaultKind::RequestsExceeded, rate, "requests"))
            }
        }
    }

    /// Takes the tokens that the request may cost. From a limit in the shadow they are taken whether they are there or not.
    pub(super) fn take_tokens(
        &self,
        rate: &Rate,
        wanted: &Wanted,
        now: Nanos,
    ) -> Result<(Taken, Room), Fault> {
        if !self.limits.shadow.tokens {
            return self.take_tokens_there(rate, wanted, now);
        }
        let (amount, _) = wanted.tokens(rate.burst);
        if self.cells.tokens.take(rate, amount, now).is_err() {
            self.cells.tokens.settle(rate, 0, amount, now);
            self.note_shadow(1);
        }
        Ok((Taken { amount, is_slice: false, output_cap: None }, self.cells.tokens.peek(rate, now)))
    }

    /// Counts a request that a limit in the shadow would have refused.
    #[cold]
    fn note_shadow(&self, limit: usize) {
        self.cells.would_refuse[limit].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn give_back_request(&self, now: Nanos) {
        if let Some(rate) = &self.limits.requests {
            self.cells.requests.settle(rate, 1, 0, now);
        }
    }

    fn take_tokens_there(&self, rate: &Rate, wanted: &Wanted, now: Nanos) -> Result<(Taken, Room), Fault> {
        if wanted.text > rate.burst {
            let note = format!(
                "the text of the request is about {} tokens, more than the limit of {} of {} '{}'",
                wanted.text, rate.burst, self.kind, self.name
            );
            return Err(Fault::new(FaultKind::TokensNeverFit, note));
        }
        let exceeded = |wait| self.exceeded(wait, FaultKind::TokensExceeded, rate, "tokens");
        let (amount, is_slice) = wanted.tokens(rate.burst);
        let cells = self.cells;
        if cells.growing.is_anybody_waiting() {
            return Err(exceeded(Wait::For(RETRY_SOON)));
        }
        let most = wanted.prompt.saturating_add(wanted.model_max.saturating_mul(wanted.choices));
        let left = cells.tokens.peek(rate, now).remaining;
        let least = wanted.prompt.saturating_add(OUTPUT_MIN.saturating_mul(wanted.choices));
        // Of images alone, which are counted by kind, a limit that is too small for them takes all that it has.
        if is_slice && !wanted.is_stream && left < most && least <= rate.burst {
            let slice = wanted.prompt.saturating_add(wanted.slice.saturating_mul(wanted.choices));
            let amount = cells.tokens.take_of(rate, |left| share(left, wanted.prompt, slice), now);
            let taken = wanted.rest(Unit::Tokens, amount);
            if taken.output_cap.is_some_and(|cap| cap >= OUTPUT_MIN) {
                return Ok((taken, cells.tokens.peek(rate, now)));
            }
            cells.tokens.settle(rate, amount, 0, now);
            let wait = match cells.tokens.take(rate, least, now) {
                // Others have given back in between.
                Ok(_) => {
                    cells.tokens.settle(rate, least, 0, now);
                    Wait::For(RETRY_SOON)
                }
                Err(wait) => wait,
            };
            return Err(exceeded(wait));
        }
        let room = cells.tokens.take(rate, amount, now).map_err(exceeded)?;
        Ok((Taken { amount, is_slice, output_cap: None }, room))
    }

    #[cold]
    pub(super) fn too_many_in_flight(&self) -> Fault {
        let (kind, name, most) = (self.kind, self.name, self.limits.in_flight_max);
        let note = format!("too many requests in flight: {kind} '{name}' may have {most} at once");
        Fault::new(FaultKind::InFlightExceeded, note).retry_after(RETRY_SOON)
    }

    #[cold]
    pub(super) fn exceeded(&self, wait: Wait, kind: FaultKind, rate: &Rate, what: &str) -> Fault {
        let Rate { per_minute, .. } = rate;
        let note =
            format!("rate limit exceeded: {per_minute} {what} per minute for {} '{}'", self.kind, self.name);
        match wait {
            Wait::For(wait) => Fault::new(kind, note).retry_after(wait),
            Wait::Never => Fault::new(kind, note),
        }
    }
}

/// Advice when a slot is expected to come free at any moment.
pub(super) const RETRY_SOON: Nanos = Nanos(1_000_000_000);
