//! What the model may call.

use super::{broken, missing, read, word};
use crate::dialect::neutral::{
    Json, Object, Request, Text, Tool, ToolChoice, ToolKind, malformed, unsupported,
};
use crate::error::Fault;
use crate::wire::json::ValueKind;

/// The provider's own tools that agents offer with every request, whether the model needs them or not. They are left out,
/// and the client hears of it, as long as it has tools of its own.
#[derive(Default)]
pub(super) struct Hosted {
    /// Where the first one stood, and its type.
    first: Option<(String, String)>,
}

impl Hosted {
    /// Refuses a request that has nothing but the provider's own tools.
    pub(super) fn settle(self, request: &mut Request<'_>) -> Result<(), Fault> {
        match self.first {
            Some((at, kind)) if request.tools.is_empty() => Err(hosted(&at, &kind)),
            _ => Ok(()),
        }
    }
}

fn hosted(at: &str, kind: &str) -> Fault {
    unsupported(&format!("{at}.type"), &format!("'{kind}' is not available from the backends of this model"))
}

/// Whether a type is of a tool that a model can do without.
fn is_optional(kind: &str) -> bool {
    kind.starts_with("web_search") || matches!(kind, "image_generation" | "tool_search")
}

/// Reads the list `tools` of an object. `at` is its path in the body.
pub(super) fn read_all<'a>(
    object: &Object<'a>,
    at: &str,
    request: &mut Request<'a>,
    dropped: &mut Hosted,
) -> Result<(), Fault> {
    if object.of_kind("tools", ValueKind::Array).is_none() {
        return Err(malformed(format!("'{at}' has to be a list")));
    }
    for (index, element) in object.elements("tools").enumerate() {
        let at = format!("{at}[{index}]");
        let tool = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
        match word(&tool, "type").as_deref() {
            // The functions of a namespace are told apart by their own names.
            Some("namespace") => {
                for (index, element) in tool.elements("tools").enumerate() {
                    let at = format!("{at}.tools[{index}]");
                    let inner = read(element.map_err(|bad| broken(&at, bad))?.0, &at)?;
                    declare(&inner, &at, request, dropped)?;
                }
            }
            _ => declare(&tool, &at, request, dropped)?,
        }
    }
    Ok(())
}

fn declare<'a>(
    tool: &Object<'a>,
    at: &str,
    request: &mut Request<'a>,
    dropped: &mut Hosted,
) -> Result<(), Fault> {
    let kind = word(tool, "type").unwrap_or_default();
    let kind = match kind.as_str() {
        "function" | "" => ToolKind::Function {
            schema: tool.of_kind("parameters", ValueKind::Object),
            strict: tool.boolean("strict"),
        },
        "custom" => ToolKind::Custom { format: tool.get("format") },
        optional if is_optional(optional) => {
            request.losses.note(format!("tools.{optional}"));
            dropped.first.get_or_insert_with(|| (at.to_owned(), kind));
            return Ok(());
        }
        other => return Err(hosted(at, other)),
    };
    let name = tool.text("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| missing(at, "name", "a string"))?;
    if request.tools.iter().any(|tool| tool.name == name) {
        return Err(unsupported(
            &format!("{at}.name"),
            "is the name of two tools, and backends know no namespaces",
        ));
    }
    request.tools.push(Tool { name, description: tool.text("description"), kind });
    Ok(())
}

/// Reads whether the model has to call a tool. A list of those that are allowed leaves the others out.
pub(super) fn choice<'a>(value: Json<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    if let Some(mode) = Text::of(value) {
        request.tool_choice = Some(mode_of(&mode, "tool_choice")?);
        return Ok(());
    }
    let choice = read(value, "tool_choice")?;
    request.tool_choice = Some(match word(&choice, "type").as_deref() {
        Some("function" | "custom") => {
            ToolChoice::Named(choice.text("name").ok_or_else(|| missing("tool_choice", "name", "a string"))?)
        }
        Some("allowed_tools") => {
            let mut names = Vec::new();
            for (index, element) in choice.elements("tools").enumerate() {
                let at = format!("tool_choice.tools[{index}]");
                names.extend(read(element.map_err(|bad| broken(&at, bad))?.0, &at)?.text("name"));
            }
            request.tools.retain(|tool| names.contains(&tool.name));
            mode_of(&choice.text("mode").unwrap_or(Text::escaped(b"auto")), "tool_choice.mode")?
        }
        _ => {
            return Err(unsupported(
                "tool_choice.type",
                "names a tool that the backends of this model do not have",
            ));
        }
    });
    Ok(())
}

fn mode_of<'a>(mode: &Text<'_>, at: &str) -> Result<ToolChoice<'a>, Fault> {
    match mode.to_plain().as_deref() {
        Some("auto") => Ok(ToolChoice::Auto),
        Some("none") => Ok(ToolChoice::None),
        Some("required") => Ok(ToolChoice::Required),
        _ => Err(malformed(format!("'{at}' has to be auto, none or required"))),
    }
}
