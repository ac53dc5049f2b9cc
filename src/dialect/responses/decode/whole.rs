//! A backend's whole response, and its errors.

use super::record::{self, Item, Response};
use crate::dialect::Unfit;
use crate::dialect::neutral::{Context, Event, FaultRecord, Json, Object, PartKind, Text};
use crate::dialect::usage::Usage;
use crate::wire::json;

/// Decodes a whole response into the events of its stream.
///
/// # Errors
/// It is an error, is not finished, or is another API's response.
pub fn body(context: &Context, body: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Unfit> {
    for member in json::members(body) {
        member?;
    }
    let response = Response::read(body);
    if response.fault.is_some() || response.status == b"failed" {
        return Err(Unfit("the body is an error"));
    }
    if !matches!(response.status, b"completed" | b"incomplete" | b"") {
        return Err(Unfit("the response is not finished"));
    }
    if response.output.first() != Some(&b'[') {
        return Err(Unfit("there is no list 'output'"));
    }
    sink(Event::Start { id: response.id.clone(), model: response.model.clone() });
    let mut teller = Teller { request_id: &context.request_id, parts: 0, calls: 0 };
    teller.output(response.output, sink);
    sink(Event::Finish { reason: response.finish_reason(teller.calls > 0), stop_sequence: None });
    if let Ok(Some(usage)) = Usage::read(response.usage) {
        sink(Event::Usage(usage));
    }
    sink(Event::End);
    Ok(())
}

/// Tells the output of a whole response.
pub(super) struct Teller<'c> {
    pub(super) request_id: &'c str,
    pub(super) parts: usize,
    pub(super) calls: usize,
}

impl Teller<'_> {
    /// Tells each item of a list.
    pub(super) fn output(&mut self, output: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        for (span, _) in json::elements(output).map_while(Result::ok) {
            let item = Item::read(span.of(output));
            match (item.call(), item.kind) {
                (Some(is_custom), _) => {
                    self.calls += 1;
                    let id = call_id(&item, self.request_id, self.calls);
                    let kind = PartKind::ToolCall { id, name: item.name.clone(), is_custom };
                    self.part(kind, &item.arguments, &Text::default(), sink);
                }
                (None, b"reasoning") => {
                    let thought = item.thought();
                    if !thought.is_empty() || !item.signature.is_empty() {
                        self.part(PartKind::Thinking, &thought, &item.signature, sink);
                    }
                }
                (None, b"message") => self.message(item.content, sink),
                _ => {}
            }
        }
    }

    fn message(&mut self, content: Json<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        for (span, _) in json::elements(content).map_while(Result::ok) {
            let Ok(part) = Object::read(span.of(content)) else { continue };
            let (kind, text) = match part.text("type").unwrap_or_default().inside() {
                b"output_text" | b"text" => (PartKind::Text, part.text("text")),
                b"refusal" => (PartKind::Refusal, part.text("refusal")),
                _ => continue,
            };
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.part(kind, &text, &Text::default(), sink);
            }
        }
    }

    fn part(
        &mut self,
        kind: PartKind<'_>,
        text: &Text<'_>,
        signature: &Text<'_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let part = self.parts;
        self.parts += 1;
        sink(Event::Open { part, kind });
        if !text.is_empty() {
            sink(Event::Delta { part, text: text.clone() });
        }
        if !signature.is_empty() {
            sink(Event::Signature { part, text: signature.clone() });
        }
        sink(Event::Close { part });
    }
}

/// What pairs a call with its result; made where the backend has nothing.
pub(super) fn call_id<'a>(item: &Item<'a>, request_id: &str, number: usize) -> Text<'a> {
    let given = [&item.call_id, &item.id].into_iter().find(|id| !id.is_empty());
    given.cloned().unwrap_or_else(|| Text::plain(&format!("call_{request_id}_{number}")))
}

/// Decodes the body of an error.
pub fn fault(status: u16, body: &[u8]) -> FaultRecord<'_> {
    let object = Object::read(body).ok();
    let error = object.as_ref().and_then(|object| object.get("error"));
    FaultRecord { status: Some(status), ..record::fault(error.unwrap_or(body)) }
}
