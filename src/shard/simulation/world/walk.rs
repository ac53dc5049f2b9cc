//! The walk of a request: what `dispatch`, the queue and the relay do with sockets.

use super::super::{Wanted, blind, chat};
use super::*;

impl World {
    /// The loop of `dispatch`, up to the next wait for somebody.
    pub(super) fn go_on(&mut self, id: u64) {
        let shard = self.shard(id);
        let request = self.requests.get_mut(&id).expect("it runs");
        if let Err(kind) = request.retry_state.draw(&mut self.sides[shard].budget) {
            self.count("a retry over budget");
            return self.over(id, kind);
        }
        let line = (self.plan.generation, self.model(id).id);
        let waits = self.requests[&id].retry_state.may_queue() && !self.holds(id);
        if waits && self.sides[shard].queues.is_waiting(line) {
            return self.queue(id);
        }
        let tried = *self.requests[&id].retry_state.tried();
        if self.choose(id, &tried) {
            return;
        }
        if waits && self.is_full(id) {
            return self.queue(id);
        }
        self.nobody(id);
    }

    pub(super) fn nobody(&mut self, id: u64) {
        let shard = self.shard(id);
        let tried = *self.requests[&id].retry_state.tried();
        for (index, member) in self.model(id).pool.iter().enumerate() {
            let free = self.is_free(member) && !tried.contains(index);
            assert!(!free, "{id} is refused although backend {index} is well and free");
        }
        let random = self.random.borrow_mut().next();
        let request = self.requests.get_mut(&id).expect("it runs");
        match request.retry_state.nobody(&mut self.sides[shard].budget, random) {
            Nobody::Unasked => self.over(id, FaultKind::NoBackend),
            Nobody::Over(kind) => self.over(id, kind),
            Nobody::Wait(wait) => {
                self.tell(("wait", id, wait));
                self.set(id, Stage::Waiting);
                let total = self.requests[&id].started.plus(self.plan.timeouts.total);
                let at = self.now.plus(wait).min(total).since(self.now).0.next_multiple_of(TICK);
                self.next_after(id, at);
            }
        }
    }

    pub(super) fn is_free(&self, member: &Member) -> bool {
        let backend = member.backend;
        let server = &self.servers[backend.index()];
        self.plan.backends.cells(backend).health() != Health::Down
            && server.transport.is_well()
            && self.responses[member.deployment.index()].is_well()
            && server.in_flight < u64::from(self.plan.backend(backend).in_flight_max)
    }

    fn is_full(&self, id: u64) -> bool {
        let (wanted, now) = (chat(0, 0), self.tick(self.shard(id)));
        Pool { plan: &self.plan, model: self.model(id), wanted: &wanted, now }.is_full()
    }

    /// Calls the backend that `choose` picks, if there is one.
    pub(super) fn choose(&mut self, id: u64, tried: &Tried) -> bool {
        let (plan, shard) = (Rc::clone(&self.plan), self.shard(id));
        let request = &self.requests[&id];
        let (prompt_tokens, kv_tokens) = (request.prompt, request.prompt + request.output);
        let wanted = Wanted { is_last_model: !self.holds(id), ..chat(prompt_tokens, kv_tokens) };
        let now = self.tick(shard);
        let lease = |backend, pending| plan.backends.take(ShardId::new(shard), backend, pending, kv_tokens);
        let prepare = blind(&wanted, self.random.borrow_mut().next());
        let model = &plan.models[request.model];
        let pool = Pool { plan: &plan, model, wanted: &wanted, now };
        let Some(picked) = pool.pick(tried, prepare, lease) else {
            return false;
        };
        assert!(!tried.contains(picked.index), "it had its try");
        assert!(plan.backends.cells(picked.backend).health() != Health::Down, "asked although it is down");
        self.begin(id, picked);
        true
    }

    pub(super) fn begin(&mut self, id: u64, picked: Picked<'_, Share>) {
        let Picked { index, member, lease: share, expected, probes, alone, .. } = picked;
        let expected = expected.seconds;
        let (shard, backend) = (self.shard(id), share.backend.index());
        self.numbers += 1;
        let attempt = Attempt { number: self.numbers, deployment: member.deployment, alone };
        let now = self.tick(shard);
        let request = self.requests.get_mut(&id).expect("it runs");
        request.attempts += 1;
        assert!(request.attempts <= self.plan.limits.attempts, "more attempts than there may be");
        assert!(!request.given, "asked again although the client has content");
        assert!(!request.worked, "asked again although the work may have been done");
        let fresh = request.retry_state.is_fresh();
        let reason = request.retry_state.begin(index, probes);
        match reason {
            Reason::Waited => request.asked.clear(),
            Reason::Stale => drop(request.asked.pop()), // it was a connection that had its try
            _ => {}
        }
        assert!(!request.asked.contains(&(request.model, index)), "asked twice");
        request.asked.push((request.model, index));
        let server = &mut self.servers[backend];
        server.in_flight += 1;
        server.pending += request.prompt;
        server.asked_late += u64::from(self.now >= SOUND);
        let responses = &mut self.responses[member.deployment.index()];
        let probes = !server.transport.is_well() || !responses.is_well();
        server.transport.asked(attempt.number, alone, now);
        responses.asked(attempt.number, alone, now);
        match reason {
            Reason::First => {}
            Reason::Stale => self.count("a stale connection"),
            Reason::Failover => self.count("a failover"),
            Reason::Waited => self.count("a wait"),
        }
        if probes {
            self.count("a probe");
        }
        self.sides[shard].retries += u64::from(matches!(reason, Reason::Failover | Reason::Waited));
        self.tell(("ask", id, backend, attempt.number, fresh));
        let (wait, outcome, worked) = self.outcome(id, shard, backend, fresh);
        self.requests.get_mut(&id).expect("it runs").worked = worked;
        self.set(id, Stage::Asking { share, attempt, outcome, expected });
        let total = self.requests[&id].started.plus(self.plan.timeouts.total).since(self.now).0;
        self.next_after(id, wait.min(total.next_multiple_of(TICK)));
    }

    /// What becomes of an attempt, after how long, and whether the work was begun.
    pub(super) fn outcome(
        &mut self,
        id: u64,
        shard: usize,
        backend: usize,
        fresh: bool,
    ) -> (u64, Outcome, bool) {
        let kept = if fresh { None } else { self.sides[shard].kept[backend].pop() };
        let sent =
            Sent { reused: kept.is_some(), request_bytes: true, response_bytes: false, body_held: true };
        let answered = Sent { response_bytes: true, ..sent };
        let unsent = Sent { request_bytes: false, reused: false, ..sent };
        let fails = |kind, asked, sent| Outcome::Fails(Failure { kind, asked, sent });
        let quick = self.chance.within(MILLI, 30 * MILLI);
        if kept == Some(false) {
            return (quick, fails(FaultKind::BackendClosed, None, sent), false);
        }
        let mood = self.servers[backend].mood.unwrap_or(Mood::Well);
        let late = self.plan.timeouts.first_token.0.next_multiple_of(TICK);
        let pause = self.chance.within(0, 8);
        let asked = (pause > 0).then_some(Nanos(pause * SECOND / 2));
        match mood {
            _ if self.chance.once_in(5) => {}
            Mood::Refuses if kept.is_none() => {
                return (quick, fails(FaultKind::ConnectFailed, None, unsent), false);
            }
            Mood::NoSockets if kept.is_none() => {
                return (quick, fails(FaultKind::SocketsExhausted, Some(Nanos(SECOND)), unsent), false);
            }
            Mood::Busy => {
                let kind = if pause.is_multiple_of(2) {
                    FaultKind::BackendBusy
                } else {
                    FaultKind::BackendOverloaded
                };
                return (quick, fails(kind, asked, answered), false);
            }
            Mood::Fails => return (quick, fails(FaultKind::BackendFailed, None, answered), false),
            Mood::Denies => return (quick, fails(FaultKind::BackendDenied, None, answered), false),
            Mood::TooLong if self.holds(id) => {
                return (quick, fails(FaultKind::ContextExceeded, None, answered), true);
            }
            Mood::Slow => return (late, fails(FaultKind::FirstTokenTimeout, None, sent), true),
            Mood::Closes if kept.is_none() => {
                return (quick, fails(FaultKind::BackendClosed, None, sent), true);
            }
            Mood::Cuts if self.chance.once_in(2) => {
                return (quick, fails(FaultKind::BackendCut, None, answered), true);
            }
            _ => {}
        }
        (quick * 4, Outcome::Responses { cut: mood == Mood::Cuts }, true)
    }

    pub(super) fn next(&mut self, id: u64, stage: u32) {
        if self.requests.get(&id).is_none_or(|request| request.number != stage) {
            return;
        }
        let total = self.requests[&id].started.plus(self.plan.timeouts.total);
        match self.set(id, Stage::Deciding) {
            Stage::Deciding => unreachable!("nothing was to come"),
            Stage::Waiting if self.now >= total => self.over_at_once(id, FaultKind::TotalTimeout),
            Stage::Waiting => self.go_on(id),
            Stage::Queued { ticket, until, .. } => {
                assert!(self.now.since(until).0 <= 2 * TICK, "waited beyond its time");
                let freed = |backend: BackendId| self.now.since(self.servers[backend.index()].freed).0;
                for member in &self.model(id).pool {
                    let idle = self.is_free(member) && freed(member.backend) > 2 * TICK;
                    assert!(!idle, "{id} waited although {:?} is well and free", member.backend);
                }
                self.unqueue(id, &ticket);
                self.over_at_once(id, FaultKind::QueueTimeout);
            }
            Stage::Asking { share, attempt, outcome, expected } => {
                self.answered(id, share, attempt, outcome, expected);
            }
            Stage::Relaying { share, attempt, left, cut, prefilled, expected, since } => {
                self.relay(id, Stage::Relaying { share, attempt, left, cut, prefilled, expected, since });
            }
        }
    }

    pub(super) fn answered(
        &mut self,
        id: u64,
        share: Share,
        attempt: Attempt,
        outcome: Outcome,
        expected: f64,
    ) {
        let shard = self.shard(id);
        let plan = Rc::clone(&self.plan);
        let state = plan.failure_state(attempt.deployment, attempt.alone);
        let mut failure = match outcome {
            Outcome::Responses { cut } => {
                let now = self.tick(shard);
                state.success(now);
                self.hear(attempt, |transport, responses| {
                    transport.answered(now);
                    responses.answered(now);
                });
                self.tell(("answers", id, attempt.number));
                let left = self.chance.within(1, 6);
                let since = self.now;
                self.set(
                    id,
                    Stage::Relaying { share, attempt, left, cut, prefilled: false, expected, since },
                );
                let wait = self.chance.within(MILLI, 50 * MILLI);
                return self.next_after(id, wait);
            }
            Outcome::Fails(failure) => failure,
        };
        if self.now >= self.requests[&id].started.plus(plan.timeouts.total) {
            failure.kind = FaultKind::TotalTimeout;
        }
        self.free(id, share);
        let random = self.random.borrow_mut().next();
        let request = self.requests.get_mut(&id).expect("it runs");
        let again = request.retry_state.failed(failure, &state, self.now, random);
        self.tell(("failed", id, attempt.number, failure.kind as u8, again));
        self.failed(attempt, &failure);
        match again {
            true => self.go_on(id),
            false => self.over(id, failure.kind),
        }
    }

    /// Tells what is known of a backend's transport, and of its deployment's responses.
    pub(super) fn hear(&mut self, attempt: Attempt, tell: impl FnOnce(&mut Passive, &mut Passive)) {
        let server = &mut self.servers[self.plan.deployment(attempt.deployment).backend.index()];
        let (transport, responses) = (&mut server.transport, &mut self.responses[attempt.deployment.index()]);
        let well = transport.is_well() && responses.is_well();
        tell(transport, responses);
        if !well && transport.is_well() && responses.is_well() {
            server.freed = self.now;
        }
    }

    /// An attempt failed, and the gateway's own failure state has heard of it.
    pub(super) fn failed(&mut self, attempt: Attempt, failure: &Failure) {
        let (plan, now) = (Rc::clone(&self.plan), self.now);
        let state = plan.failure_state(attempt.deployment, attempt.alone);
        let (number, alone) = (attempt.number, attempt.alone);
        self.hear(attempt, |transport, responses| match about(failure) {
            None => {
                transport.gone(number);
                responses.gone(number);
            }
            Some(About::Backend) => {
                transport.failed(number, failure, state.backend, alone, now);
                responses.gone(number);
            }
            Some(About::Deployment) => {
                transport.answered(now);
                responses.failed(number, failure, state.deployment, alone, now);
            }
        });
    }

    /// The lease is dropped.
    pub(super) fn free(&mut self, id: u64, share: Share) {
        let (shard, prompt) = (self.shard(id), self.requests[&id].prompt);
        let pending =
            !matches!(&self.requests[&id].stage, Stage::Relaying { .. }) && !self.requests[&id].given;
        let server = &mut self.servers[share.backend.index()];
        server.in_flight -= 1;
        server.pending -= if pending { prompt } else { 0 };
        server.freed = self.now;
        self.plan.backends.give_back(ShardId::new(shard), share);
        self.sides[shard].queues.call();
    }

    pub(super) fn relay(&mut self, id: u64, stage: Stage) {
        let Stage::Relaying { mut share, attempt, left, cut, prefilled, expected, since } = stage else {
            return;
        };
        let (shard, backend) = (self.shard(id), share.backend);
        let plan = Rc::clone(&self.plan);
        let Attempt { deployment, alone, .. } = attempt;
        if !prefilled {
            assert!(plan.backends.first_token(ShardId::new(shard), &mut share));
            self.servers[backend.index()].pending -= self.requests[&id].prompt;
            let ratio = (self.now.since(since).seconds() / expected) as f32;
            plan.deployments.cells(deployment).ewma.observe(ratio, self.now);
        }
        self.requests.get_mut(&id).expect("it runs").given = true;
        if left > 1 {
            let left = left - 1;
            self.set(id, Stage::Relaying { share, attempt, left, cut, prefilled: true, expected, since });
            let wait = self.chance.within(MILLI, 300 * MILLI);
            return self.next_after(id, wait);
        }
        self.free(id, share);
        if cut {
            self.count("a cut answer");
            let random = self.random.borrow_mut().next();
            let failure = Failure { kind: FaultKind::BackendCut, asked: None, sent: Sent::default() };
            let report = Report { kind: failure.kind, asked: None, connected: true };
            plan.failure_state(deployment, alone).report(report, Probes::default(), self.now, random);
            self.failed(attempt, &failure);
        } else if left == 1 {
            self.count("a response");
            self.sides[shard].kept[backend.index()].push(true);
        }
        self.end(id);
    }

    pub(super) fn queue(&mut self, id: u64) {
        let (shard, model) = (self.shard(id), self.model(id).id);
        let (line, lane) = ((self.plan.generation, model), self.requests[&id].lane);
        if !self.plan.models.cells(model).waiting.try_enter(self.plan.limits.queue) {
            return self.over_at_once(id, FaultKind::BackendBusy);
        }
        self.count("a place in a queue");
        let key = KeyId::new(lane % 3);
        let same = |other: &&Request| {
            matches!(other.stage, Stage::Queued { .. })
                && other.lane % 2 == shard
                && other.lane % 3 == lane % 3
        };
        let ahead = self.requests.values().filter(same).count() as u64;
        let ticket = self.sides[shard].queues.enter(line, Some(key));
        let until = self.now.plus(self.plan.timeouts.queue_timeout);
        let until = until.min(self.requests[&id].started.plus(self.plan.timeouts.total));
        let served = self.sides[shard].served;
        self.set(id, Stage::Queued { ticket, ahead, served, until });
        self.tell(("queue", id, ahead));
        let stage = self.requests[&id].number;
        self.due(until, Event::Next { request: id, stage });
        if !std::mem::replace(&mut self.sides[shard].ticking, true) {
            self.after(TICK, Event::Tick { shard });
        }
    }

    pub(super) fn unqueue(&mut self, id: u64, ticket: &Rc<Ticket>) {
        let (shard, model) = (self.shard(id), self.model(id).id);
        self.plan.models.cells(model).waiting.leave();
        self.sides[shard].queues.leave((self.plan.generation, model), ticket);
    }

    pub(super) fn ticks(&mut self, shard: usize) {
        self.sides[shard].queues.call();
        let waits =
            |request: &Request| matches!(request.stage, Stage::Queued { .. }) && request.lane % 2 == shard;
        self.sides[shard].ticking = self.requests.values().any(waits);
        if self.sides[shard].ticking {
            self.after(TICK, Event::Tick { shard });
        }
    }

    /// Whoever has the turn and was called looks for a slot, until nobody is.
    pub(super) fn turns(&mut self) {
        let looks = |world: &Self| {
            world.requests.iter().find_map(|(id, request)| {
                let Stage::Queued { ticket, ahead, served, .. } = &request.stage else { return None };
                let line = (world.plan.generation, world.plan.models[request.model].id);
                let looks = world.sides[request.lane % 2].queues.may_look(line, ticket);
                looks.then(|| (*id, Rc::clone(ticket), *ahead, *served))
            })
        };
        while let Some((id, ticket, ahead, served)) = looks(self) {
            let shard = self.shard(id);
            if self.choose(id, &Tried::default()) {
                self.unqueue(id, &ticket);
                let passed = self.sides[shard].served - served;
                assert!(passed < (ahead + 1) * 3, "{passed} went first, {ahead} of its key before it");
                self.sides[shard].served += 1;
            } else if !self.is_full(id) {
                self.unqueue(id, &ticket);
                self.set(id, Stage::Deciding);
                self.nobody(id);
            }
        }
    }

    pub(super) fn leave(&mut self, id: u64) {
        if !self.requests.contains_key(&id) {
            return;
        }
        self.count("a client that left");
        self.tell(("leaves", id));
        match self.set(id, Stage::Deciding) {
            Stage::Queued { ticket, .. } => self.unqueue(id, &ticket),
            Stage::Asking { share, attempt, .. } => {
                let plan = Rc::clone(&self.plan);
                let state = plan.failure_state(attempt.deployment, attempt.alone);
                self.free(id, share);
                let failure = Failure { kind: FaultKind::ClientGone, asked: None, sent: Sent::default() };
                let request = self.requests.get_mut(&id).expect("it runs");
                assert!(!request.retry_state.failed(failure, &state, self.now, 0), "asked for nobody");
                self.failed(attempt, &failure);
            }
            Stage::Relaying { share, attempt, prefilled, expected, since, .. } => {
                let gone =
                    Stage::Relaying { share, attempt, left: 0, cut: false, prefilled, expected, since };
                return self.relay(id, gone);
            }
            Stage::Waiting | Stage::Deciding => {}
        }
        self.end(id);
    }

    /// The model has no response: its fallback is asked.
    pub(super) fn over(&mut self, id: u64, kind: FaultKind) {
        let next = self.model(id).fallbacks.first().copied().filter(|_| retry::falls_back(kind));
        let Some(next) = next else { return self.over_at_once(id, kind) };
        self.count("a fallback");
        let retry_state = self.retry_state();
        let request = self.requests.get_mut(&id).expect("it runs");
        (request.model, request.retry_state, request.attempts, request.worked) =
            (next.index(), retry_state, 0, false);
        self.go_on(id);
    }

    pub(super) fn over_at_once(&mut self, id: u64, kind: FaultKind) {
        self.count("a refusal");
        self.tell(("over", id, kind as u8));
        self.end(id);
    }

    pub(super) fn end(&mut self, id: u64) {
        let request = self.requests.remove(&id).expect("it is settled once");
        let lasted = self.now.since(request.started).0;
        assert!(lasted <= self.plan.timeouts.total.0 + 3 * SECOND, "it lasted {lasted} ns");
        let key = KeyId::new(request.lane % 3);
        let cells = self.plan.keys.cells(key);
        cells.in_flight.leave();
        self.entered -= u32::from(key.index() == 2);
        if let (Some(rate), Some(reserved)) = (&self.plan.key(key).grant.limits.tokens, request.reserved) {
            let actual = if request.given { request.prompt + request.output / 2 } else { 0 };
            cells.tokens.settle(rate, reserved, actual, self.now);
            self.taken[1].add(i128::from(actual) - i128::from(reserved), self.now);
        }
        self.think(request.lane);
    }
}
