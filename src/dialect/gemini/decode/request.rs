//! A client's request. The model and whether the response streams are in its path.

use super::{broken, contents, missing, read};
use crate::dialect::gemini::spelling::Members;
use crate::dialect::neutral::{
    Format, Json, Losses, Reasoning, Request, Text, Tool, ToolChoice, ToolKind, malformed, unsupported,
};
use crate::error::Fault;
use crate::wire::json::{self, ValueKind};

/// Decodes the body of a request to `generateContent` or `streamGenerateContent`, which `prepared` has been through.
///
/// # Errors
/// `BodyMalformed` for what the API does not define; `MemberUnsupported` for what no other dialect can say and would
/// change the meaning if it were dropped. Both name the member.
pub fn request(body: &[u8]) -> Result<Request<'_>, Fault> {
    let object = read(body, "the body")?;
    if object.get("contents").is_none() {
        return Err(malformed("'contents' has to be a list"));
    }
    let mut request = Request::default();
    let mut allowed = Vec::new();
    for (name, value, kind) in object.iter() {
        match name.as_str() {
            "model" => {}
            "contents" => contents::contents(&object, &mut request)?,
            "systemInstruction" => request.system = contents::system(value, &mut request.losses)?,
            "tools" => tools(&object, &mut request)?,
            "toolConfig" => allowed = tool_config(value, &mut request)?,
            "generationConfig" => config(value, &mut request)?,
            "cachedContent" if kind == ValueKind::String && value != b"\"\"" => {
                return Err(unsupported("cachedContent", "is not available from the backends of this model"));
            }
            "cachedContent" => {}
            _ => request.losses.note(name),
        }
    }
    if !allowed.is_empty() {
        request.tools.retain(|tool| allowed.iter().any(|name| is_same(name, &tool.name)));
        if request.tools.is_empty() {
            let member = "toolConfig.functionCallingConfig.allowedFunctionNames";
            return Err(malformed(format!("'{member}' names no function that is declared")));
        }
    }
    Ok(request)
}

fn is_same(one: &Text<'_>, other: &Text<'_>) -> bool {
    one == other || one.to_plain().is_some_and(|one| Some(one) == other.to_plain())
}

fn tools<'a>(object: &Members<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    let tools = object.elements("tools").map_err(|bad| broken("tools", bad))?;
    for (index, value) in tools.into_iter().enumerate() {
        let at = format!("tools[{index}]");
        let tool = read(value, &at)?;
        for (name, _, _) in tool.iter() {
            if name != "functionDeclarations" {
                let why = "is not available from the backends of this model";
                return Err(unsupported(&format!("{at}.{name}"), why));
            }
        }
        let at = format!("{at}.functionDeclarations");
        let functions = tool.elements("functionDeclarations").map_err(|bad| broken(&at, bad))?;
        for (index, value) in functions.into_iter().enumerate() {
            request.tools.push(function(value, &format!("{at}[{index}]"), &mut request.losses)?);
        }
    }
    Ok(())
}

fn function<'a>(value: Json<'a>, at: &str, losses: &mut Losses) -> Result<Tool<'a>, Fault> {
    let function = read(value, at)?;
    for (name, _, _) in function.iter() {
        if !matches!(name.as_str(), "name" | "description" | "parameters" | "parametersJsonSchema") {
            losses.note(format!("functionDeclarations.{name}"));
        }
    }
    let name = function.text("name").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| missing(at, "name", "a string"))?;
    let schema = function.of_kind("parametersJsonSchema", ValueKind::Object);
    let schema = schema
        .or_else(|| function.of_kind("parameters", ValueKind::Object))
        .filter(|schema| *schema != b"{}");
    let kind = ToolKind::Function { schema, strict: None };
    Ok(Tool { name, description: function.text("description"), kind })
}

/// Returns the functions that may be called, where there is more than one such name or the model need not call any.
fn tool_config<'a>(value: Json<'a>, request: &mut Request<'a>) -> Result<Vec<Text<'a>>, Fault> {
    let config = read(value, "toolConfig")?;
    if let Some((name, _, _)) = config.iter().find(|(name, _, _)| name != "functionCallingConfig") {
        request.losses.note(format!("toolConfig.{name}"));
    }
    let at = "toolConfig.functionCallingConfig";
    let Some(config) = config.object("functionCallingConfig").map_err(|bad| broken(at, bad))? else {
        return Ok(Vec::new());
    };
    let names = config.elements("allowedFunctionNames").map_err(|bad| broken(at, bad))?;
    let names = names.into_iter().map(Text::of).collect::<Option<Vec<_>>>();
    let mut names = names.ok_or_else(|| missing(at, "allowedFunctionNames", "a list of strings"))?;
    request.tool_choice =
        Some(match (config.word("mode").unwrap_or_default().to_uppercase().as_str(), names.len()) {
            ("NONE", _) => {
                names.clear();
                ToolChoice::None
            }
            ("ANY", 1) => ToolChoice::Named(names.remove(0)),
            ("ANY", _) => ToolChoice::Required,
            ("" | "AUTO" | "VALIDATED" | "MODE_UNSPECIFIED", _) => ToolChoice::Auto,
            _ => return Err(missing(at, "mode", "AUTO, ANY, NONE or VALIDATED")),
        });
    Ok(names)
}

const CONFIG: &str = "generationConfig";

fn config<'a>(value: Json<'a>, request: &mut Request<'a>) -> Result<(), Fault> {
    let config = read(value, CONFIG)?;
    let params = &mut request.params;
    let number = |value: Json<'a>, kind: ValueKind, name: &str| match kind {
        ValueKind::Number => Ok(Some(value)),
        _ => Err(missing(CONFIG, name, "a number")),
    };
    for (name, value, kind) in config.iter() {
        match name.as_str() {
            "maxOutputTokens" => {
                let most = json::unsigned(value).ok_or_else(|| missing(CONFIG, &name, "a whole number"))?;
                params.output_max = Some(most).filter(|most| *most > 0);
            }
            "temperature" => params.temperature = number(value, kind, &name)?,
            "topP" => params.top_p = number(value, kind, &name)?,
            "topK" => params.top_k = number(value, kind, &name)?,
            "seed" => params.seed = number(value, kind, &name)?,
            "presencePenalty" => params.presence_penalty = number(value, kind, &name)?,
            "frequencyPenalty" => params.frequency_penalty = number(value, kind, &name)?,
            "stopSequences" => {
                let stop = config.elements("stopSequences").map_err(|bad| broken(CONFIG, bad))?;
                let stop = stop.into_iter().map(Text::of).collect::<Option<_>>();
                params.stop = stop.ok_or_else(|| missing(CONFIG, &name, "a list of strings"))?;
            }
            "thinkingConfig" => params.reasoning = thinking(value)?,
            "responseMimeType" | "responseSchema" | "responseJsonSchema" => {} // see `format`
            _ => refuse_or_drop(&name, value, kind, &mut request.losses)?,
        }
    }
    params.format = format(&config)?;
    Ok(())
}

/// Members that change what is generated are refused, hints are dropped.
fn refuse_or_drop(name: &str, value: Json<'_>, kind: ValueKind, losses: &mut Losses) -> Result<(), Fault> {
    let is_other_than_text = || {
        let is_text = |kind: &[u8]| kind.eq_ignore_ascii_case(b"\"TEXT\"");
        json::elements(value).map_while(Result::ok).any(|(kind, _)| !is_text(kind.of(value)))
    };
    let refuses = match name {
        "candidateCount" => value != b"1",
        "responseLogprobs" => kind == ValueKind::True,
        "logprobs" => value != b"0",
        "responseModalities" => is_other_than_text(),
        "speechConfig" | "imageConfig" => true,
        _ => {
            losses.note(name.to_owned());
            false
        }
    };
    match refuses {
        true => {
            let why = match name {
                "candidateCount" => "above 1 is not available from the backends of this model",
                "responseModalities" => "other than TEXT are not available from the backends of this model",
                _ => "is not available from the backends of this model",
            };
            Err(unsupported(&format!("{CONFIG}.{name}"), why))
        }
        false => Ok(()),
    }
}

/// Words for how much to think win over a budget. A budget of -1 leaves it to the model. Whether thoughts are shown has no
/// counterpart: other APIs show what there is.
fn thinking(value: Json<'_>) -> Result<Option<Reasoning<'_>>, Fault> {
    let at = "generationConfig.thinkingConfig";
    let thinking = read(value, at)?;
    if let Some(level) = thinking.word("thinkingLevel").filter(|level| level != "THINKING_LEVEL_UNSPECIFIED")
    {
        return Ok(Some(Reasoning::Effort(Text::plain(&level.to_ascii_lowercase()))));
    }
    match thinking.get("thinkingBudget") {
        None => Ok(None),
        Some(b"0") => Ok(Some(Reasoning::Off)),
        Some([b'-', ..]) => Ok(Some(Reasoning::Adaptive)),
        Some(budget) => {
            let budget =
                json::unsigned(budget).ok_or_else(|| missing(at, "thinkingBudget", "a whole number"))?;
            Ok(Some(Reasoning::Budget(budget)))
        }
    }
}

/// The schema need not be one that OpenAI calls strict, so that it is not called so.
fn format<'a>(config: &Members<'a>) -> Result<Option<Format<'a>>, Fault> {
    let schema = config.of_kind("responseJsonSchema", ValueKind::Object);
    let schema = schema.or_else(|| config.of_kind("responseSchema", ValueKind::Object));
    match (config.word("responseMimeType").as_deref(), schema) {
        (None | Some("" | "application/json"), Some(schema)) => {
            Ok(Some(Format::JsonSchema { name: None, schema, strict: Some(false) }))
        }
        (Some("application/json"), None) => Ok(Some(Format::JsonObject)),
        (None | Some("" | "text/plain"), None) => Ok(None),
        _ => Err(unsupported(
            "generationConfig.responseMimeType",
            "is no form of output that can be translated",
        )),
    }
}
