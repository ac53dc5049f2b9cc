//! Responses: numbered events that build the response up, item by item and part by part.
//!
//! `response.created` and `.in_progress` with nothing in the response, then for each item `output_item.added`, its
//! parts or arguments, `output_item.done`, at last `response.completed`, `.incomplete` or `.failed` with all of it.
//! The SDKs keep an item under its position, look at whether each event names its item's own id, and refuse events
//! they do not know. So items of other kinds than those below come whole, as do those without an id.

use crate::dialect::Unfit;
use crate::dialect::whole::{Change, EMPTY_ARRAY, EMPTY_STRING, Events, NULL, Object};
use crate::wire::json::{self, ValueKind};

const IN_PROGRESS: Change<'_> = ("status", Some(b"\"in_progress\""));

pub(in crate::dialect) fn as_stream(body: &[u8], _: bool, events: &mut Events<'_>) -> Result<(), Unfit> {
    let response = Object::read(body)?;
    let status = response.of_kind("status", ValueKind::String)?.ok_or(Unfit("there is no 'status'"))?;
    let last = [
        ("completed", "response.completed"),
        ("incomplete", "response.incomplete"),
        ("failed", "response.failed"),
    ];
    let last = last.iter().find(|(name, _)| json::key_is(status, name));
    let (_, last) = last.ok_or(Unfit("the response is not finished"))?;
    let output = response.of_kind("output", ValueKind::Array)?.ok_or(Unfit("there is no 'output'"))?;

    for name in ["response.created", "response.in_progress"] {
        events.open_numbered(name);
        let changes = [
            IN_PROGRESS,
            ("output", EMPTY_ARRAY),
            ("output_text", None), // an SDK's own convenience, copied by some servers
            ("usage", NULL),
            ("error", NULL),
            ("incomplete_details", NULL),
            ("completed_at", NULL),
        ];
        events.object("response", &response, &changes);
        events.close()?;
    }
    for (index, element) in json::elements(output).enumerate() {
        let object = Object::read(element?.0.of(output))?;
        let id = object.of_kind("id", ValueKind::String)?.filter(|id| id.len() > 2);
        Item { object, id, index: index as u64 }.tell(events)?;
    }
    events.open_numbered(last);
    events.member("response", body);
    events.close()
}

/// One item of the output.
struct Item<'b> {
    object: Object<'b>,
    /// With its quotes. `None` if it has none, or an empty one.
    id: Option<&'b [u8]>,
    index: u64,
}

/// A list of parts in an item, and how its events are named.
struct Parts {
    /// The member that holds them.
    member: &'static str,
    added: &'static str,
    done: &'static str,
    /// The member of an event that says which part it is.
    index: &'static str,
    /// The types of parts whose text is told.
    told: &'static [Told],
}

static CONTENT: Parts = Parts {
    member: "content",
    added: "response.content_part.added",
    done: "response.content_part.done",
    index: "content_index",
    told: TOLD.split_at(3).0,
};

static SUMMARY: Parts = Parts {
    member: "summary",
    added: "response.reasoning_summary_part.added",
    done: "response.reasoning_summary_part.done",
    index: "summary_index",
    told: TOLD.split_at(3).1,
};

/// What a part of one type says: the member with its text, and the events that tell it.
struct Told {
    part_type: &'static str,
    member: &'static str,
    delta: &'static str,
    done: &'static str,
}

/// Of content, and the last one of summaries.
static TOLD: [Told; 4] = [
    Told {
        part_type: "output_text",
        member: "text",
        delta: "response.output_text.delta",
        done: "response.output_text.done",
    },
    Told {
        part_type: "refusal",
        member: "refusal",
        delta: "response.refusal.delta",
        done: "response.refusal.done",
    },
    Told {
        part_type: "reasoning_text",
        member: "text",
        delta: "response.reasoning_text.delta",
        done: "response.reasoning_text.done",
    },
    Told {
        part_type: "summary_text",
        member: "text",
        delta: "response.reasoning_summary_text.delta",
        done: "response.reasoning_summary_text.done",
    },
];

impl Item<'_> {
    fn tell(&self, events: &mut Events<'_>) -> Result<(), Unfit> {
        let is = |kind| self.object.says("type", kind);
        if is("message")? && self.object.of_kind(CONTENT.member, ValueKind::Array)?.is_some() {
            // Its text is told without an id too: most readers look at the text only.
            self.added(&[IN_PROGRESS, ("content", EMPTY_ARRAY)], events)?;
            self.parts(&CONTENT, events)?;
        } else if self.id.is_some() && is("reasoning")? {
            let content = self.object.of_kind(CONTENT.member, ValueKind::Array)?;
            let changes = [IN_PROGRESS, ("summary", EMPTY_ARRAY), ("content", EMPTY_ARRAY)];
            self.added(if content.is_some() { &changes } else { &changes[..2] }, events)?;
            self.parts(&SUMMARY, events)?;
            self.parts(&CONTENT, events)?;
        } else if self.id.is_some() && is("function_call")? {
            let told = ["response.function_call_arguments.delta", "response.function_call_arguments.done"];
            self.call("arguments", told, events)?;
        } else if self.id.is_some() && is("custom_tool_call")? {
            let told = ["response.custom_tool_call_input.delta", "response.custom_tool_call_input.done"];
            self.call("input", told, events)?;
        } else {
            self.added(&[], events)?;
        }
        events.open_numbered("response.output_item.done");
        events.index("output_index", self.index);
        events.object("item", &self.object, &[]);
        events.close()
    }

    fn added(&self, changes: &[Change<'_>], events: &mut Events<'_>) -> Result<(), Unfit> {
        events.open_numbered("response.output_item.added");
        events.index("output_index", self.index);
        events.object("item", &self.object, changes);
        events.close()
    }

    /// Begins an event about something in this item.
    fn open(&self, name: &str, events: &mut Events<'_>) {
        events.open_numbered(name);
        events.member("item_id", self.id.unwrap_or(b"\"\""));
        events.index("output_index", self.index);
    }

    /// A call, whose arguments are one string.
    fn call(&self, name: &str, told: [&str; 2], events: &mut Events<'_>) -> Result<(), Unfit> {
        let Some(arguments) = self.object.of_kind(name, ValueKind::String)? else {
            return self.added(&[], events);
        };
        self.added(&[IN_PROGRESS, (name, EMPTY_STRING)], events)?;
        self.open(told[0], events);
        events.member("delta", arguments);
        events.close()?;
        self.open(told[1], events);
        if let Some(function) = self.object.get("name")? {
            events.member("name", function.text);
        }
        events.member(name, arguments);
        events.close()
    }

    /// The parts of a list, if the item has it.
    fn parts(&self, parts: &Parts, events: &mut Events<'_>) -> Result<(), Unfit> {
        let Some(list) = self.object.of_kind(parts.member, ValueKind::Array)? else {
            return Ok(());
        };
        for (index, element) in json::elements(list).enumerate() {
            let object = Object::read(element?.0.of(list))?;
            let told = parts.told_in(&object)?;
            let annotations = object.of_kind("annotations", ValueKind::Array)?;
            let part = Part { object, told, annotations, index_name: parts.index, index: index as u64 };
            self.part(parts, &part, events)?;
        }
        Ok(())
    }

    fn part(&self, parts: &Parts, part: &Part<'_>, events: &mut Events<'_>) -> Result<(), Unfit> {
        self.open_in(part, parts.added, events);
        if let Some((told, _)) = part.told {
            let changes =
                [(told.member, EMPTY_STRING), ("logprobs", EMPTY_ARRAY), ("annotations", EMPTY_ARRAY)];
            let count = if part.annotations.is_some() { 3 } else { 2 };
            events.object("part", &part.object, &changes[..count]);
        } else {
            events.object("part", &part.object, &[]);
        }
        events.close()?;

        if let Some((told, text)) = part.told {
            self.text(part, told.delta, ("delta", text), events)?;
            self.annotations(part, events)?;
            self.text(part, told.done, (told.member, text), events)?;
        }

        self.open_in(part, parts.done, events);
        events.object("part", &part.object, &[]);
        events.close()
    }

    /// Begins an event about a part of this item.
    fn open_in(&self, part: &Part<'_>, name: &str, events: &mut Events<'_>) {
        self.open(name, events);
        events.index(part.index_name, part.index);
    }

    /// An event with all the text of a part as its member `text.0`.
    fn text(
        &self,
        part: &Part<'_>,
        name: &str,
        text: (&str, &[u8]),
        events: &mut Events<'_>,
    ) -> Result<(), Unfit> {
        self.open_in(part, name, events);
        events.member(text.0, text.1);
        if part.is_output() {
            let logprobs = part.object.of_kind("logprobs", ValueKind::Array)?;
            events.member("logprobs", logprobs.unwrap_or(b"[]"));
        }
        events.close()
    }

    fn annotations(&self, part: &Part<'_>, events: &mut Events<'_>) -> Result<(), Unfit> {
        let Some(annotations) = part.annotations.filter(|_| part.is_output()) else {
            return Ok(());
        };
        for (position, annotation) in json::elements(annotations).enumerate() {
            self.open_in(part, "response.output_text.annotation.added", events);
            events.index("annotation_index", position as u64);
            events.member("annotation", annotation?.0.of(annotations));
            events.close()?;
        }
        Ok(())
    }
}

/// One part of an item.
struct Part<'b> {
    object: Object<'b>,
    /// How its text is told, and the text with its quotes. `None`: it comes whole.
    told: Option<(&'static Told, &'b [u8])>,
    annotations: Option<&'b [u8]>,
    index_name: &'static str,
    index: u64,
}

impl Part<'_> {
    /// Whether its text is what the model says.
    fn is_output(&self) -> bool {
        self.told.is_some_and(|(told, _)| told.part_type == "output_text")
    }
}

impl Parts {
    /// How the text of a part is told, and the text.
    fn told_in<'b>(&self, part: &Object<'b>) -> Result<Option<(&'static Told, &'b [u8])>, Unfit> {
        let kind = part.of_kind("type", ValueKind::String)?.unwrap_or_default();
        let Some(told) = self.told.iter().find(|told| json::key_is(kind, told.part_type)) else {
            return Ok(None);
        };
        Ok(part.of_kind(told.member, ValueKind::String)?.map(|text| (told, text)))
    }
}
