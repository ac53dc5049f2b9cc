//! One attempt: a connection to one backend, the request sent, the opening of the response awaited.

pub(super) mod hedge;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::choose::Picked;
use super::dial::Dial;
use super::encode::{self, Encoded, Part};
use super::patience::{Limit, Patience};
use crate::clock;
use crate::dialect::translate::Call;
use crate::error::{Fault, FaultKind, Unreachable};
use crate::net::buffers::{Buffer, grow};
use crate::net::stream::{Completion, Writer};
use crate::observe::counters::Counter;
use crate::plan::{Backend, Model};
use crate::policy::routing::retry::Sent;
use crate::shard::client::Client;
use crate::shard::convert;
use crate::shard::decode::{Decode, Decoded};
use crate::shard::exchange::Exchange;
use crate::shard::guarding::Guarding;
use crate::shard::idle::Connection;
use crate::shard::interrupt::Interrupt;
use crate::shard::lease::Lease;
use crate::shard::opening::{Hold, Readiness};
use crate::shard::request::Request;
use crate::shard::response::{Fallback, Response};
use crate::shard::state::Shard;
use crate::shard::translation::Translation;
use crate::units::Nanos;
use crate::wire::Step;
use crate::wire::head::{self, Method, ResponseHead};
use crate::wire::records::RecordForm;
use hedge::{Hedger, Overtaken};

/// One attempt.
pub(super) struct Attempt<'a> {
    client: &'a mut Client,
    exchange: &'a mut Exchange,
    request: &'a Request<'a>,
    model: &'a Model,
    /// Dial, although a connection may be idle: the last one taken was dead, and so may be the others.
    pub(super) is_fresh: bool,
    pub(super) fallback: Fallback,
    /// How far it has come.
    pub(super) sent: Sent,
    /// What the backend sent before it had the whole request.
    early: Option<Completion<usize>>,
    /// The deadline that is being waited with.
    limit: Option<Limit>,
    /// Who asks a second backend if this one does not begin to respond in time.
    pub(super) hedger: Option<Hedger<'a>>,
    /// The second backend, if it responded first.
    pub(super) overtaken: Option<Overtaken>,
}

/// A backend that has been asked.
struct Leg<'a> {
    picked: Picked<'a, Lease>,
    form: Form,
    connection: Connection,
    /// When the request was sent.
    sent: Nanos,
}

/// How a request is put to a backend, and its response is read.
struct Form {
    call: Call,
    translation: Option<Box<Translation>>,
    asks_usage: bool,
    /// Members of the request that it is not sent.
    dropped: Option<Box<str>>,
}

/// How an attempt failed.
pub(super) struct Refused {
    pub(super) fault: Fault,
    /// The pause that the backend asked for.
    pub(super) asked: Option<Nanos>,
    /// The backend's response, if that tells the client more than the fault does.
    pub(super) response: Option<Box<Response>>,
}

impl Refused {
    /// With a fault of ours.
    pub(super) fn of(fault: Fault) -> Self {
        Self { fault, asked: None, response: None }
    }

    /// Of two refusals, the one that lets the client come back sooner.
    pub(super) fn or_sooner(self, last: Option<Self>) -> Self {
        match last {
            Some(last)
                if last.fault.retry_after.is_some() && last.fault.retry_after < self.fault.retry_after =>
            {
                last
            }
            _ => self,
        }
    }
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        client: &'a mut Client,
        exchange: &'a mut Exchange,
        request: &'a Request<'a>,
        model: &'a Model,
    ) -> Self {
        let (is_fresh, fallback, sent) = (false, Fallback::None, Sent::default());
        let (early, limit, hedger, overtaken) = (None, None, None, None);
        Self { client, exchange, request, model, is_fresh, fallback, sent, early, limit, hedger, overtaken }
    }

    /// Makes the attempt.
    ///
    /// # Errors
    /// The backend did not respond, or its response is one that another backend may not give.
    pub(super) async fn run(&mut self, picked: Picked<'a, Lease>) -> Result<Response, Refused> {
        self.exchange.attempts += 1;
        self.exchange.backend = Some(picked.backend);
        let mut response = self.respond(picked).await.map_err(Refused::of)?;
        let Some(fault) = response.refusal(response.api(self.request.api), self.fallback) else {
            return Ok(response);
        };
        // The response may be kept; the same backend may be called again meanwhile.
        response.lease.give_back();
        let asked = response.asked_pause(self.client.shard.unix_ms.get());
        let fault = match asked {
            Some(pause) => fault.retry_after(pause),
            None => fault,
        };
        let response = response.speaks_for_itself().then(|| Box::new(response));
        Err(Refused { fault, asked, response })
    }

    /// How the request is put to a backend.
    ///
    /// # Errors
    /// It cannot be.
    fn form(&self, picked: &Picked<'_, Lease>) -> Result<(Encoded, Form), Fault> {
        let backend = self.client.shard.plan.backend(picked.backend);
        let call = backend
            .provider
            .call(self.request.api)
            .ok_or_else(|| Fault::new(FaultKind::Internal, "a backend was chosen that cannot be called"))?;
        let mut encoded = encode::request(self.exchange, self.request, self.client, picked.member, call)?;
        let translated = encoded.translated.take();
        if self.model.refuses_losses
            && let Some(members) = translated.as_ref().and_then(|translated| translated.losses.refusable())
        {
            let note =
                format!("{members} cannot be sent to the backends of this model (on_loss = \"refuse\")");
            return Err(Fault::new(FaultKind::MemberUnsupported, note));
        }
        let dropped = translated.as_ref().and_then(|translated| translated.losses.line());
        let peek = &self.request.peek;
        let translation =
            translated.map(|translated| Box::new(Translation::new(self.exchange, call, translated, peek)));
        let asks_usage = encoded.asks_usage;
        Ok((encoded, Form { call, translation, asks_usage, dropped }))
    }

    /// The backend's response, opened.
    async fn respond(&mut self, picked: Picked<'a, Lease>) -> Result<Response, Fault> {
        let shard = self.client.shard.clone();
        let backend = shard.plan.backend(picked.backend);
        let (encoded, mut form) = self.form(&picked)?;
        self.exchange.dropped = form.dropped.take();
        self.sent.body_held = true;
        let mut connection = self.connect(&shard, backend).await?;
        if picked.probes.backend.is_some() && !connection.reused {
            shard.plan.backends.cells(backend.id).breaker.connected();
        }
        self.sent.reused = connection.reused;
        let sent = clock::now();
        self.exchange.overhead =
            Nanos(sent.since(self.exchange.started).0.saturating_sub(self.exchange.waited.0));
        let patience = self.patience();
        self.send(&mut connection, encoded, &patience).await?;
        let was_early = self.early.is_some();
        let mut leg = Leg { picked, form, connection, sent };
        if !was_early && let Some(hedger) = self.hedger.take() {
            self.hedge(hedger, &mut leg, &patience).await?;
        }
        let (mut head, buffer, answered) = self.head(&mut leg.connection, &patience).await?;
        let Leg { picked, form, connection, sent } = leg;
        head.keep_alive &= !was_early;
        let records = form.call.backend.stream().records();
        // Lines that nobody asked for are read as one body.
        let is_wanted = self.request.peek.stream || records != RecordForm::Ndjson;
        head.event_stream = head.records == Some(records) && is_wanted;
        let mut response = Response {
            decode: Decode::new(head.framing),
            decoded: Decoded { ended: false, extra: false },
            connection,
            lease: picked.lease,
            deployment: picked.member.deployment,
            alone: picked.alone,
            head,
            buffer,
            asks_usage: form.asks_usage,
            choices: self.request.peek.choices,
            translation: form.translation,
            guarding: Guarding::of(self.exchange, self.request.peek.choices),
            resume: None,
            has_failed: false,
            sent,
            answered,
            expected: picked.expected,
        };
        self.open(&mut response, &patience).await?;
        response.restate(&shard, response.api(self.request.api));
        if response.is_error() {
            response.mask(shard.plan.backend(picked.backend).credential());
        }
        Ok(response)
    }

    /// Decodes what came with the head, and waits for as much as the response has to be held for.
    async fn open(&mut self, response: &mut Response, patience: &Patience<'_>) -> Result<(), Fault> {
        let limits = self.client.shard.plan.limits;
        let shard = self.client.shard.clone();
        let api = response.api(self.request.api);
        let mut from = response.head.len;
        let mut hold = Hold::default();
        loop {
            let cut = |_| Fault::new(FaultKind::BackendMalformed, "the backend's chunked coding is broken");
            response.decoded = response.decode.step(&mut response.buffer, from).map_err(cut)?;
            let is_labelled = convert::label(&shard, response, &self.request.peek);
            let is_read_whole = (response.translation.is_some() || response.guarding.is_some())
                && !response.head.event_stream;
            let converts =
                is_read_whole || convert::wanted(self.exchange, response, &self.request.peek).is_some();
            let readiness = response.readiness(api, converts, self.fallback, &limits);
            let now = self.client.deadline.now();
            match readiness {
                Readiness::Open if is_labelled => return Ok(()),
                Readiness::Preamble { events } if self.fallback == Fallback::None && is_labelled => {
                    if !hold.goes_on(events, now) {
                        return Ok(());
                    }
                    self.wait_until(patience.event(now));
                }
                _ => {
                    if let Some(limit) = patience.body(response.head.event_stream, now) {
                        self.wait_until(limit);
                    }
                }
            }
            let mut buffer = std::mem::take(&mut response.buffer);
            let room_wanted = if converts { buffer.len() } else { 1 };
            grow(&mut buffer, room_wanted);
            from = buffer.len();
            response.connection.reader.arm(buffer);
            let (read, buffer) = match self.client.wait(response.connection.reader.filled()).await {
                Ok(filled) => filled,
                Err(interrupt) => return Err(self.interrupted(interrupt)),
            };
            response.buffer = buffer;
            match read {
                Ok(0) if response.may_end(self.request.api) => response.decoded.ended = true,
                Ok(0) | Err(_) => {
                    // The backend has taken the prompt; another one that responds says what it cost.
                    self.exchange.is_charged = self.exchange.charges(response.head.status);
                    return Err(Fault::new(
                        FaultKind::BackendCut,
                        "the backend's response ended before it could be passed on",
                    ));
                }
                Ok(bytes) => self.client.shard.numbers.add(Counter::BytesFromBackends, bytes as u64),
            }
            if response.decoded.ended {
                return Ok(());
            }
        }
    }

    /// A kept connection, or a new one.
    async fn connect(&mut self, shard: &Shard, backend: &Backend) -> Result<Connection, Fault> {
        let now = shard.deadlines.now();
        let turn = shard.idle.turn(backend.id, now);
        let (kept, stale) = match turn {
            _ if self.is_fresh => (None, 0),
            None => shard.idle.take(backend.id),
            Some(turn) => {
                let any = backend.tls.is_some() && !shard.random().is_multiple_of(SPREAD_EVERY);
                shard.idle.take_of(backend.id, turn, any, now)
            }
        };
        if stale > 0 {
            shard.numbers.add(Counter::BackendStale, stale);
        }
        if let Some(kept) = kept {
            shard.numbers.add(Counter::BackendReused, 1);
            return Ok(kept);
        }
        shard.numbers.add(Counter::BackendDials, 1);
        self.wait_until(self.patience().connect());
        let dial = Dial::new(shard, backend, self.model.timeouts.connect);
        let dialled = self.client.wait(Box::pin(dial.run(turn))).await;
        let fault = match dialled {
            Ok(Ok(mut connection)) => {
                connection.reader.arm(shard.buffers.large());
                return Ok(connection);
            }
            Ok(Err(fault)) => fault,
            Err(interrupt) => {
                if interrupt == Interrupt::DeadlineExceeded {
                    let unreached = &shard.plan.backends.cells(backend.id).unreached;
                    unreached.note(Unreachable::TimedOut, shard.deadlines.now());
                }
                self.interrupted(interrupt)
            }
        };
        shard.numbers.add(Counter::BackendDialFailures, 1);
        Err(fault)
    }

    async fn send(
        &mut self,
        connection: &mut Connection,
        request: Encoded,
        patience: &Patience<'_>,
    ) -> Result<(), Fault> {
        let bytes = request.bytes();
        self.wait_until(patience.first_byte());
        self.sent.request_bytes = true;
        let (reader, mut write) = (&mut connection.reader, pin!(write(&mut connection.writer, request)));
        let mut early = None;
        let written = poll_fn(|context| {
            if let Poll::Ready(written) = write.as_mut().poll(context) {
                return Poll::Ready(Some(written));
            }
            // A response to a request that is still being sent: the rest of the request is not waited for.
            match reader.poll_filled(context) {
                Poll::Ready(filled) => {
                    early = Some(filled);
                    Poll::Ready(None)
                }
                Poll::Pending => Poll::Pending,
            }
        });
        let (result, request) = match self.client.wait(written).await {
            Ok(Some(written)) => written,
            Ok(None) => {
                self.early = early;
                return Ok(());
            }
            Err(interrupt) => return Err(self.interrupted(interrupt)),
        };
        self.client.shard.buffers.put(request);
        self.client.shard.numbers.add(Counter::BytesToBackends, bytes as u64);
        // A backend that refuses early may close its side while we send: its response is worth reading.
        match result {
            Ok(()) => Ok(()),
            Err(_) if connection.reused => {
                Err(Fault::new(FaultKind::BackendClosed, "the backend closed a kept connection"))
            }
            Err(_) => Ok(()),
        }
    }

    /// Waits for the head of the final response; interim ones are skipped.
    async fn head(
        &mut self,
        connection: &mut Connection,
        patience: &Patience<'_>,
    ) -> Result<(ResponseHead, Buffer, Nanos), Fault> {
        let shard = self.client.shard.clone();
        let limits = shard.head_limits();
        let mut scanned = 0;
        let mut interim = 0;
        let mut answered = Nanos(0);
        loop {
            let filled = match self.early.take() {
                Some(filled) => Ok(filled),
                None => self.client.wait(connection.reader.filled()).await,
            };
            let (read, mut buffer) = filled.map_err(|interrupt| self.interrupted(interrupt))?;
            if !self.sent.response_bytes {
                answered = clock::now();
            }
            match read {
                // In TLS 1.3 a server looks at the client's certificate when the handshake is over for the client.
                Err(error) if is_refused(&error) && !self.sent.response_bytes && !connection.reused => {
                    let backend = self.exchange.backend;
                    let reason = Unreachable::of(&error);
                    if let Some(backend) = backend {
                        shard.plan.backends.cells(backend).unreached.note(reason, shard.deadlines.now());
                    }
                    let note = format!("TLS to the backend failed: {}", reason.words());
                    return Err(Fault::new(FaultKind::TlsFailed, note));
                }
                Ok(0) | Err(_) => {
                    let note = "the backend closed the connection before its response";
                    let kind = if self.sent.response_bytes {
                        FaultKind::BackendMalformed
                    } else {
                        FaultKind::BackendClosed
                    };
                    return Err(Fault::new(kind, note));
                }
                Ok(bytes) => shard.numbers.add(Counter::BytesFromBackends, bytes as u64),
            }
            self.sent.response_bytes = true;
            while let Step::Done(head) = head::response(&buffer, &mut scanned, &limits, Method::Post)? {
                if head.status >= 200 {
                    self.wait_until(patience.head());
                    return Ok((head, buffer, answered));
                }
                interim += 1;
                if interim > INTERIM_MAX {
                    return Err(Fault::new(
                        FaultKind::BackendMalformed,
                        "the backend sends interim responses only",
                    ));
                }
                buffer.drain(..head.len);
                scanned = 0;
            }
            self.wait_until(if buffer.is_empty() { patience.first_byte() } else { patience.head() });
            grow(&mut buffer, 1);
            connection.reader.arm(buffer);
        }
    }

    /// The deadlines of an attempt that begins, or whose request is sent, now.
    fn patience(&self) -> Patience<'a> {
        let streams = self.request.peek.stream && self.request.api.streams();
        Patience::new(&self.model.timeouts, self.exchange.total, streams, self.client.deadline.now())
    }

    /// A deadline that is already set stays: it may have moved with a pause of the process.
    fn wait_until(&mut self, limit: Limit) {
        if self.limit.is_none_or(|before| before.at != limit.at) {
            self.client.deadline.set_at(limit.at);
        }
        self.limit = Some(limit);
    }

    fn interrupted(&self, interrupt: Interrupt) -> Fault {
        interrupt.fault(|| match &self.limit {
            Some(limit) => limit.fault(),
            None => Fault::new(FaultKind::Internal, "a wait had no deadline"),
        })
    }
}

/// Whether the other end of a TLS connection has refused it with an alert.
fn is_refused(error: &std::io::Error) -> bool {
    matches!(Unreachable::of(error), Unreachable::TlsAlert | Unreachable::ClientCertificate)
}

/// Writes a request, part by part if it is a large one. The buffer comes back.
async fn write(writer: &mut Writer, request: Encoded) -> Completion<()> {
    let Encoded { buffer, first, rest, .. } = request;
    let (mut result, mut buffer) = writer.write_all(buffer, 0..first).await;
    for part in rest {
        match part {
            _ if result.is_err() => break,
            Part::Own(range) => (result, buffer) = writer.write_all(buffer, range).await,
            Part::Client(bytes, range) => result = writer.write_shared(bytes, range).await,
        }
    }
    (result, buffer)
}

/// Where it is another address's turn, a kept TLS connection is used all the same except one time in so many: handshakes are
/// expensive, but no address may be used for ever. Chosen, not measured.
const SPREAD_EVERY: u64 = 8;
/// Interim responses (1xx) before the final one.
const INTERIM_MAX: u32 = 16;
