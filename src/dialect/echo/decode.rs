//! From this dialect into the neutral form.

use crate::dialect::Unfit;
use crate::dialect::neutral::{
    Context, Event, FaultRecord, FinishReason, Object, Part, PartKind, Request, Role, Text, Turn, malformed,
};
use crate::error::Fault;

pub(crate) fn request(body: &[u8]) -> Result<Request<'_>, Fault> {
    let object = Object::read(body).map_err(|unfit| malformed(unfit.reason))?;
    let text = object.text("text").ok_or_else(|| malformed("'text' is missing"))?;
    let turn = Turn { role: Role::User, parts: vec![Part::Text(text)] };
    Ok(Request { stream: object.get("stream") == Some(b"true"), turns: vec![turn], ..Request::default() })
}

#[derive(Debug)]
pub(crate) struct Events {
    has_begun: bool,
    whole: bool,
}

impl Events {
    pub(crate) fn new(_: &Context) -> Self {
        Self { has_begun: false, whole: false }
    }

    pub(crate) fn record(&mut self, _: Option<&[u8]>, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        let Ok(object) = Object::read(data) else { return };
        if let Some(text) = object.text("echo") {
            if !std::mem::replace(&mut self.has_begun, true) {
                sink(Event::Start { id: Text::default(), model: Text::default() });
                sink(Event::Open { part: 0, kind: PartKind::Text });
            }
            sink(Event::Delta { part: 0, text });
        }
        self.whole |= object.get("end") == Some(b"true");
    }

    pub(crate) fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if self.whole {
            sink(Event::Close { part: 0 });
            sink(Event::Finish { reason: FinishReason::Stop, stop_sequence: None });
            sink(Event::End);
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.whole
    }
}

pub(crate) fn body(context: &Context, body: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Unfit> {
    let mut events = Events::new(context);
    events.record(None, body, sink);
    events.whole = events.has_begun;
    events.end(sink);
    if events.whole { Ok(()) } else { Err(Unfit("there is no 'echo'")) }
}

pub(crate) fn fault(status: u16, body: &[u8]) -> FaultRecord<'_> {
    let words = Object::read(body).ok().and_then(|object| object.text("fault"));
    FaultRecord { message: words.unwrap_or_default(), status: Some(status), ..FaultRecord::default() }
}
