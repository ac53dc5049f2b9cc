//! The events of a stream under rules; holds back what may still become a match.
//!
//! Each text of the stream (a choice, a content block, its thoughts, the arguments of a call) has a search of its own. As
//! long as no text ends in what may still become a match, events pass as they came. Else the events
//! from the first such text on are held, in their order, until the text has gone on, has ended, or has been silent for too
//! long. A match is masked where it stands: its label in the first of its events, nothing in the others.

use super::rules::{Action, Finding, Guards, Labels};
use super::scan::{Match, Scan};
use super::whole::{Check, Checked};
use crate::dialect::texts::{self, Channel, Located, Place};
use crate::units::Span;
use crate::wire::records::RecordForm;
use crate::wire::{json, sse};

/// The rules over one stream.
#[derive(Debug)]
pub struct Filter {
    form: RecordForm,
    texts: Vec<Text>,
    /// Events that wait, as they came.
    held: Vec<u8>,
    /// Pieces of text in them, in order.
    pieces: Vec<Piece>,
    /// Masked matches in them.
    masks: Vec<Mask>,
    /// Edits of texts that are whole, in `held`.
    edits: Vec<(Span, Vec<u8>)>,
    labels: Labels,
    plain: Vec<u8>,
    located: Vec<Located>,
    held_bytes_max: usize,
    /// Times that more than `held_bytes_max` waited, and was let go.
    pub overflows: u64,
}

/// One text of the stream.
#[derive(Debug)]
struct Text {
    channel: Channel,
    place: Place,
    scan: Scan,
}

/// A piece of a text in the events that wait.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Index of its text.
    text: usize,
    /// Offsets in its text.
    from: u64,
    to: u64,
    /// The inside of its JSON string in `held`.
    inside: Span,
}

#[derive(Debug)]
struct Mask {
    text: usize,
    from: u64,
    to: u64,
    label: Vec<u8>,
}

/// What becomes of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    /// They pass as they came.
    Untouched,
    /// What may pass was appended to the output, which may be nothing.
    Rewritten,
    /// This rule stops the response. What was held is not to be sent.
    Stopped(usize),
}

impl Filter {
    /// For one stream of this form. At most `held_bytes_max` bytes of events wait.
    pub fn new(form: RecordForm, held_bytes_max: usize, labels: Labels) -> Self {
        Self {
            form,
            texts: Vec::new(),
            held: Vec::new(),
            pieces: Vec::new(),
            masks: Vec::new(),
            edits: Vec::new(),
            labels,
            plain: Vec::new(),
            located: Vec::new(),
            held_bytes_max,
            overflows: 0,
        }
    }

    /// The form of the stream.
    pub fn form(&self) -> RecordForm {
        self.form
    }

    /// Whether events wait.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Reads whole events. `found` gets every match of a rule that `applies` to the caller.
    pub fn events(
        &mut self,
        guards: &Guards,
        events: &[u8],
        out: &mut Vec<u8>,
        applies: &dyn Fn(usize) -> bool,
        found: &mut dyn FnMut(Finding),
    ) -> Passed {
        let was_holding = self.is_holding();
        let from = self.held.len();
        self.held.extend_from_slice(events);
        let mut stopped = None;
        let mut at = from;
        while let Some(next) = self.form.next_boundary(&self.held, at) {
            let event = Span::new(at, self.with_one_line(at, next));
            let next = event.end;
            stopped = stopped.or(self.event(guards, event, applies, found));
            at = next;
        }
        if let Some(rule) = stopped {
            return Passed::Stopped(rule);
        }
        if !was_holding && self.masks.is_empty() && self.edits.is_empty() && self.live_from().is_none() {
            self.clear();
            return Passed::Untouched;
        }
        if self.held.len() > self.held_bytes_max {
            self.overflows += 1;
            self.release(self.held.len(), out);
        } else {
            let end = self.live_from().unwrap_or(self.held.len());
            self.release(end, out);
        }
        Passed::Rewritten
    }

    /// The stream has been silent for too long, or has ended: what waits passes, complete matches masked.
    pub fn let_go(
        &mut self,
        guards: &Guards,
        ended: bool,
        out: &mut Vec<u8>,
        applies: &dyn Fn(usize) -> bool,
        found: &mut dyn FnMut(Finding),
    ) -> Passed {
        let mut stopped = None;
        for index in 0..self.texts.len() {
            stopped = stopped.or(self.search(guards, index, &[], Step::end(ended), applies, found));
        }
        if let Some(rule) = stopped {
            return Passed::Stopped(rule);
        }
        self.release(self.held.len(), out);
        Passed::Rewritten
    }

    /// An event whose data stand in several lines gets them in one: a text may go on from line to line. Its new end.
    fn with_one_line(&mut self, start: usize, end: usize) -> usize {
        let event = &self.held[start..end];
        if self.form != RecordForm::Sse || sse::data_spans(event).nth(1).is_none() {
            return end;
        }
        let mut lines = Vec::with_capacity(event.len());
        for (name, value) in sse::fields(event).filter(|field| field.0 != b"data") {
            lines.extend_from_slice(&[name, b": ", value, b"\n"].concat());
        }
        lines.extend_from_slice(b"data: ");
        let data = lines.len();
        sse::join_data(event, &mut lines);
        lines[data..].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        lines.extend_from_slice(b"\n\n");
        let length = lines.len();
        self.held.splice(start..end, lines);
        start + length
    }

    /// Searches one event, which lies in `held`.
    fn event(
        &mut self,
        guards: &Guards,
        event: Span,
        applies: &dyn Fn(usize) -> bool,
        found: &mut dyn FnMut(Finding),
    ) -> Option<usize> {
        let mut located = std::mem::take(&mut self.located);
        let mut sink = |data| texts::event(&self.held, data, &mut |one| located.push(one));
        match self.form {
            RecordForm::Sse => sse::data_spans(event.of(&self.held))
                .for_each(|data| sink(Span::new(event.start + data.start, event.start + data.end))),
            RecordForm::Ndjson | RecordForm::EventStream => sink(event),
        }
        let mut stopped = None;
        for one in located.drain(..) {
            let rule = match one {
                Located::Piece { place, inside, channel } => {
                    self.piece(guards, place, inside, channel, applies, found)
                }
                Located::Whole { place, inside } => self.whole(guards, place, inside, applies, found),
                Located::End { group } => self.end(guards, group, applies, found),
            };
            stopped = stopped.or(rule);
        }
        self.located = located;
        stopped
    }

    fn piece(
        &mut self,
        guards: &Guards,
        place: Place,
        inside: Span,
        channel: Channel,
        applies: &dyn Fn(usize) -> bool,
        found: &mut dyn FnMut(Finding),
    ) -> Option<usize> {
        guards.set(place)?;
        let known = self.texts.iter().position(|text| text.channel == channel && text.place == place);
        let index = known.or_else(|| {
            // A stream has a handful; one that opens ever new ones is not followed for ever.
            (self.texts.len() < TEXTS_MAX).then(|| {
                self.texts.push(Text { channel, place, scan: Scan::default() });
                self.texts.len() - 1
            })
        });
        let Some(index) = index else { return self.whole(guards, place, inside, applies, found) };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        json::unescape(inside.of(&self.held), &mut plain);
        let from = self.texts[index].scan.bytes_read();
        self.pieces.push(Piece { text: index, from, to: from + plain.len() as u64, inside });
        let stopped = self.search(guards, index, &plain, Step::Feed, applies, found);
        self.plain = plain;
        stopped
    }

    /// Takes a text's search one step further.
    fn search(
        &mut self,
        guards: &Guards,
        index: usize,
        plain: &[u8],
        step: Step,
        applies: &dyn Fn(usize) -> bool,
        found: &mut dyn FnMut(Finding),
    ) -> Option<usize> {
        let text = &mut self.texts[index];
        let set = guards.set(text.place)?;
        let (masks, labels, place) = (&mut self.masks, &mut self.labels, text.place);
        let mut stopped = None;
        let mut sink = |one: Match, bytes: &[u8]| {
            if guards.is_label(one.rule) {
                let original = labels.original(bytes, place);
                let mask = |label| Mask { text: index, from: one.start, to: one.end, label };
                return masks.extend(original.map(mask));
            }
            if !applies(one.rule) {
                return;
            }
            found(guards.finding(one.rule, place, bytes));
            let rule = guards.rule(one.rule);
            match rule.action {
                _ if rule.is_shadow => {}
                Action::Log | Action::Route(_) => {}
                Action::Refuse | Action::Stop => stopped = stopped.or(Some(one.rule)),
                Action::Mask => {
                    let mut label = Vec::new();
                    let row = set.row(one.pattern);
                    labels.append(rule.label(row.detector), bytes, &mut label);
                    masks.push(Mask { text: index, from: one.start, to: one.end, label });
                }
            }
        };
        match step {
            Step::Feed => text.scan.feed(set, plain, MATCH_BYTES_MAX, &mut sink),
            Step::LetGo => text.scan.let_go(set, &mut sink),
            Step::Finish => text.scan.finish(set, &mut sink),
        }
        stopped
    }

    fn whole(
        &mut self,
        guards: &Guards,
        place: Place,
        inside: Span,
        applies: &dyn Fn(usize) -> bool,
        found: &mut dyn FnMut(Finding),
    ) -> Option<usize> {
        let (labels, plain) = (&mut self.labels, &mut self.plain);
        let mut check = Check { guards, applies, labels, plain, checked: Checked::default() };
        check.text(&self.held, place, inside);
        let mut checked = check.checked;
        checked.findings.iter().copied().for_each(found);
        self.edits.append(&mut checked.edits);
        checked.decides.filter(|rule| !matches!(guards.rule(*rule).action, Action::Route(_)))
    }

    /// The texts of a group end.
    fn end(
        &mut self,
        guards: &Guards,
        group: Option<u64>,
        applies: &dyn Fn(usize) -> bool,
        found: &mut dyn FnMut(Finding),
    ) -> Option<usize> {
        let mut stopped = None;
        for index in 0..self.texts.len() {
            if group.is_none_or(|group| self.texts[index].channel.group == group) {
                stopped = stopped.or(self.search(guards, index, &[], Step::Finish, applies, found));
            }
        }
        stopped
    }

    /// Where the first event begins that has to wait.
    fn live_from(&self) -> Option<usize> {
        let waits = |piece: &&Piece| piece.to > self.texts[piece.text].scan.live_from();
        let first = self.pieces.iter().find(waits)?;
        let mut at = 0;
        while let Some(next) = self.form.next_boundary(&self.held, at) {
            if next > first.inside.start {
                return Some(at);
            }
            at = next;
        }
        Some(at)
    }

    /// Appends what waits up to `end` to `out`, masked, and forgets it.
    fn release(&mut self, end: usize, out: &mut Vec<u8>) {
        let mut edits = std::mem::take(&mut self.edits);
        self.masks.sort_by_key(|mask| (mask.text, mask.from));
        for piece in self.pieces.iter().filter(|piece| piece.inside.start < end) {
            let mut masked_to = piece.from;
            for mask in self.masks.iter().filter(|mask| mask.text == piece.text) {
                let (from, to) = (mask.from.max(masked_to), mask.to.min(piece.to));
                if from >= to {
                    continue;
                }
                masked_to = to;
                let range = (from - piece.from) as usize..(to - piece.from) as usize;
                let range = json::inside_range(piece.inside.of(&self.held), range);
                let span = Span::new(piece.inside.start + range.start, piece.inside.start + range.end);
                let label = if mask.from >= piece.from && from == mask.from {
                    mask.label.clone()
                } else {
                    Vec::new()
                };
                edits.push((span, label));
            }
        }
        edits.sort_by_key(|edit| edit.0.start);
        let later = edits.partition_point(|edit| edit.0.start < end);
        let rest = edits.split_off(later);
        let now: Vec<(Span, &[u8])> = edits.iter().map(|(span, new)| (*span, &**new)).collect();
        json::splice(out, &self.held[..end], &now);
        self.held.drain(..end);
        self.pieces.retain(|piece| piece.inside.start >= end);
        for piece in &mut self.pieces {
            piece.inside = Span::new(piece.inside.start - end, piece.inside.end - end);
        }
        // What is left are edits of whole texts: those of pieces were made for the events that pass now only.
        let back = |(span, new): (Span, Vec<u8>)| (Span::new(span.start - end, span.end - end), new);
        self.edits = rest.into_iter().map(back).collect();
        let pieces = &self.pieces;
        self.masks.retain(|mask| pieces.iter().any(|piece| piece.text == mask.text && mask.to > piece.from));
    }

    fn clear(&mut self) {
        self.held.clear();
        self.pieces.clear();
    }
}

#[derive(Clone, Copy)]
enum Step {
    Feed,
    LetGo,
    Finish,
}

impl Step {
    const fn end(ended: bool) -> Self {
        if ended { Self::Finish } else { Self::LetGo }
    }
}

/// Texts of one stream that are followed.
const TEXTS_MAX: usize = 256;
/// Bytes of a match; chosen, not measured: a private key of 4,096 bits in PEM has 3,300.
pub const MATCH_BYTES_MAX: usize = 4096;
