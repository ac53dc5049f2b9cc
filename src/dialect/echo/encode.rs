//! From the neutral form into this dialect.

use crate::dialect::neutral::{
    Context, Event, FaultRecord, HeldTooMuch, Losses, Part, Request, Target, Text,
};
use crate::error::Fault;

pub(crate) fn request(
    request: &Request<'_>,
    target: &Target<'_>,
    out: &mut Vec<u8>,
) -> Result<Losses, Fault> {
    let parts = request.turns.iter().flat_map(|turn| &turn.parts);
    let text =
        parts.filter_map(|part| if let Part::Text(text) = part { Some(text) } else { None }).next_back();
    out.extend_from_slice(b"{\"model\":");
    out.extend_from_slice(target.model);
    out.extend_from_slice(b",\"text\":");
    text.unwrap_or(&Text::default()).quote(out);
    out.extend_from_slice(if request.stream { b",\"stream\":true}" } else { b"}" });
    Ok(Losses::default())
}

#[derive(Debug)]
pub(crate) struct Events;

impl Events {
    pub(crate) fn new(_: Context) -> Self {
        Self
    }

    pub(crate) fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), HeldTooMuch> {
        match event {
            Event::Delta { text, .. } => {
                out.extend_from_slice(b"data: {\"echo\":");
                text.quote(out);
                out.extend_from_slice(b"}\n\n");
            }
            Event::End => out.extend_from_slice(b"data: {\"end\":true}\n\n"),
            _ => {}
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Body {
    text: Vec<u8>,
    whole: bool,
}

impl Body {
    pub(crate) fn new(_: Context) -> Self {
        Self { text: Vec::new(), whole: false }
    }

    pub(crate) fn event(&mut self, event: &Event<'_>) -> Result<(), HeldTooMuch> {
        match event {
            Event::Delta { text, .. } => self.text.extend_from_slice(text.inside()),
            Event::End => self.whole = true,
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn finish(self, out: &mut Vec<u8>) -> bool {
        if self.whole {
            out.extend_from_slice(b"{\"echo\":");
            Text::escaped(&self.text).quote(out);
            out.push(b'}');
        }
        self.whole
    }
}

pub(crate) fn fault(record: &FaultRecord<'_>, _: u16, _: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"fault\":");
    record.message.quote(out);
    out.push(b'}');
}
