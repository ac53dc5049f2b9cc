//! The routes: what each path answers, and the walk of a generation.

use super::engine::Job;
use super::fault::Fault;
use super::metrics::{self, Counts, add};
use super::quirk::{Quirk, Quirks};
use super::reply::{Ending, Page, Reply, strike};
use super::text::Prompt;
use super::ticker::Ticker;
use super::voice::{Chat, Finish, Google, Manner, Messages, Responses, Usage, Voice};
use super::wire::{NoRequest, Request, Wire};
use crate::chance::{Chance, mix};
use say::Generation;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

mod say;
mod vectors;

/// Everything the connections of one simulator share.
#[derive(Debug)]
pub struct Server {
    /// The engine.
    pub ticker: Rc<Ticker>,
    /// The counts.
    pub counts: Counts,
    /// Chance for faults.
    pub chance: RefCell<Chance>,
    /// Answers started, to number them.
    pub answers: Cell<u64>,
    /// Models served.
    pub models: Vec<String>,
    /// How long answers are.
    pub length: Length,
    /// Fixes each answer's length and words.
    pub seed: u64,
    /// Habits.
    pub quirks: Quirks,
    /// Fault for requests that name none.
    pub fault: Option<Fault>,
    /// Share of them that it strikes.
    pub fault_share: f64,
}

/// How many tokens an answer has when the request does not say.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// Mean.
    pub mean: f64,
    /// Uniform spread around it, as a share of it.
    pub spread: f64,
}

impl Length {
    fn draw(self, chance: &mut Chance) -> usize {
        let share = 1.0 + self.spread * (2.0 * chance.share() - 1.0);
        (self.mean * share).round().max(1.0) as usize
    }
}

/// The APIs that generate text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Chat,
    Completions,
    Responses,
    Messages,
    Google,
}

impl Api {
    /// Members of the body that make up the prompt, in context order.
    fn prompt_members(self) -> &'static [&'static str] {
        match self {
            Self::Chat => &["tools", "messages"],
            Self::Completions => &["prompt"],
            Self::Responses => &["tools", "instructions", "input"],
            Self::Messages => &["tools", "system", "messages"],
            Self::Google => &["tools", "systemInstruction", "contents"],
        }
    }

    fn required(self) -> &'static str {
        match self {
            Self::Chat | Self::Messages => "messages",
            Self::Completions => "prompt",
            Self::Responses => "input",
            Self::Google => "contents",
        }
    }

    fn limit(self, body: &Value) -> Option<usize> {
        let members: &[&str] = match self {
            Self::Chat => &["max_completion_tokens", "max_tokens"],
            Self::Completions | Self::Messages => &["max_tokens"],
            Self::Responses => &["max_output_tokens"],
            Self::Google => &["maxOutputTokens"],
        };
        let body = if self == Self::Google { body.get("generationConfig")? } else { body };
        members.iter().find_map(|member| body.get(*member)?.as_u64()).map(|limit| limit.max(1) as usize)
    }
}

impl Server {
    /// Answers requests on one connection until either side ends it.
    pub async fn converse(&self, wire: &mut Wire) {
        loop {
            let request = match self.quirks.idle_max() {
                None => wire.request().await,
                Some(idle_max) => match tokio::time::timeout(idle_max, wire.request()).await {
                    Ok(request) => request,
                    Err(_) => return,
                },
            };
            let request = match request {
                Ok(request) => request,
                Err(NoRequest::Closed) => return,
                Err(NoRequest::Malformed(why)) => {
                    let reply = Reply { wire, quirks: &self.quirks, fault: None, keep_alive: false };
                    reply.page(error_page(400, "BadRequestError", why.0)).await;
                    return;
                }
            };
            let written = wire.written.get();
            let ending = self.answer(wire, &request).await;
            add(&self.counts.bytes, wire.written.get() - written);
            let open = matches!(ending, Ending::Whole | Ending::Refused) && request.keep_alive;
            if !open {
                return;
            }
        }
    }

    async fn answer(&self, wire: &mut Wire, request: &Request) -> Ending {
        let reply = Reply { wire, quirks: &self.quirks, fault: None, keep_alive: request.keep_alive };
        let method = request.method.as_str();
        let page = match (method, request.path.as_str()) {
            ("GET", "/health" | "/ping") => {
                Page { status: 200, content_type: "text/plain", retry_after: None, body: Vec::new() }
            }
            ("GET", "/v1/models") if self.quirks.has(Quirk::Models500) => {
                error_page(500, "InternalServerError", "no models today")
            }
            ("GET", "/v1/models") => self.models_page(),
            ("GET", "/version") => Page::json(200, &json!({"version": env!("CARGO_PKG_VERSION")})),
            ("GET", "/sim/state") => Page::json(200, &metrics::state(&self.counts, &self.ticker)),
            ("GET", "/metrics") => Page {
                status: 200,
                content_type: "text/plain; version=0.0.4; charset=utf-8",
                retry_after: None,
                body: metrics::text(&self.counts, &self.ticker, &self.models[0]).into_bytes(),
            },
            (_, path) if WORK_PATHS.contains(&path) || google_path(path).is_some() => {
                if method != "POST" {
                    return reply.page(Page::json(405, &json!({"detail": "Method Not Allowed"}))).await;
                }
                return self.work(reply, request).await;
            }
            _ => Page::json(404, &json!({"detail": "Not Found"})),
        };
        reply.page(page).await
    }

    fn models_page(&self) -> Page {
        let models = self.models.iter().map(|model| {
            json!({"id": model, "object": "model", "created": 1_700_000_000, "owned_by": "vllm", "root": model,
                "parent": null, "max_model_len": self.context_max()})
        });
        Page::json(200, &json!({"object": "list", "data": models.collect::<Vec<_>>()}))
    }

    /// Takes one request for work and counts how it ended.
    async fn work(&self, reply: Reply<'_>, request: &Request) -> Ending {
        add(&self.counts.received, 1);
        let ending = self.work_uncounted(reply, request).await;
        add(
            match ending {
                Ending::Whole => &self.counts.completed,
                Ending::Refused => &self.counts.refused,
                Ending::Faulted => &self.counts.faulted,
                Ending::ClientGone => &self.counts.aborted,
            },
            1,
        );
        ending
    }

    async fn work_uncounted(&self, mut reply: Reply<'_>, request: &Request) -> Ending {
        let mut body: Value = match serde_json::from_slice(&request.body) {
            Ok(body @ Value::Object(_)) => body,
            _ => {
                return reply.page(error_page(400, "BadRequestError", "the body is no JSON object")).await;
            }
        };
        // Google's path says what the others' bodies do.
        let google = google_path(&request.path);
        if let Some((model, stream)) = &google {
            body["model"] = model.as_str().into();
            body["stream"] = (*stream).into();
        }
        let (model, fault) = match self.choose(&body, request) {
            Ok(choice) => choice,
            Err(page) => return reply.page(page).await,
        };
        reply.fault = fault;
        match fault {
            Some(Fault::Status { code, retry_after }) => {
                let kind = if code == 429 { "RateLimitError" } else { "InternalServerError" };
                let mut page = error_page(code, kind, "simulated fault");
                page.retry_after = matches!(code, 429 | 503).then_some(retry_after);
                return reply.page(page).await;
            }
            Some(Fault::Html502) => {
                let body =
                    b"<html><head><title>502 Bad Gateway</title></head><body>nobody home</body></html>\n";
                let page =
                    Page { status: 502, content_type: "text/html", retry_after: None, body: body.to_vec() };
                return reply.page(page).await;
            }
            Some(fault @ Fault::HangBeforeHead) => return strike(reply.wire, fault).await,
            _ => {}
        }
        match request.path.as_str() {
            _ if google.is_some() => self.generate(reply, Api::Google, &body, model).await,
            "/v1/chat/completions" => self.generate(reply, Api::Chat, &body, model).await,
            "/v1/completions" => self.generate(reply, Api::Completions, &body, model).await,
            "/v1/responses" => self.generate(reply, Api::Responses, &body, model).await,
            "/v1/messages" => self.generate(reply, Api::Messages, &body, model).await,
            "/v1/embeddings" => self.embeddings(reply, &body, &model).await,
            _ => self.rerank(reply, &body, &model).await,
        }
    }

    /// The model's name in the answer, and the fault: by header, then by the model's `#fault` suffix, then by chance.
    fn choose(&self, body: &Value, request: &Request) -> Result<(String, Option<Fault>), Page> {
        let asked = body.get("model").and_then(Value::as_str).unwrap_or(&self.models[0]);
        let (model, suffix) =
            asked.split_once('#').map_or((asked, None), |(model, fault)| (model, Some(fault)));
        if !self.models.iter().any(|known| known == model) {
            return Err(error_page(404, "NotFoundError", &format!("The model `{model}` does not exist.")));
        }
        let fault = match request.fault.as_deref().or(suffix).map(str::parse).transpose() {
            Ok(Some(fault)) => Some(fault),
            Ok(None) => self.fault.filter(|_| self.chance.borrow_mut().share() < self.fault_share),
            Err(why) => return Err(error_page(400, "BadRequestError", &why)),
        };
        let suffix = if self.quirks.has(Quirk::ModelSuffix) { "@main" } else { "" };
        Ok((format!("{model}{suffix}"), fault))
    }

    async fn generate(&self, reply: Reply<'_>, api: Api, body: &Value, model: String) -> Ending {
        let asked = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
        let stream = asked && !self.quirks.has(Quirk::IgnoreStream);
        if body.get(api.required()).is_none_or(Value::is_null) {
            let why = format!("member `{}` is missing", api.required());
            return reply.page(error_page(400, "BadRequestError", &why)).await;
        }
        let options = body.get("stream_options").filter(|options| !options.is_null());
        if options.is_some() && !asked {
            let why = "Stream options can only be defined when `stream=True`.";
            return reply.page(error_page(400, "BadRequestError", why)).await;
        }
        let number = self.answers.get();
        self.answers.set(number + 1);
        let seed = body.get("seed").and_then(Value::as_u64).map_or(number, mix);
        let mut chance = Chance::for_item(self.seed, seed);
        let prompt = Prompt::of(body, api.prompt_members());
        let mut output_tokens = self.length.draw(&mut chance);
        let limit = api.limit(body);
        if let Some(least) = body.get("min_tokens").and_then(Value::as_u64) {
            output_tokens = output_tokens.max(least as usize);
        }
        let mut finish = Finish::Stop;
        if let Some(limit) = limit {
            let forced = body.get("ignore_eos").and_then(Value::as_bool).unwrap_or(false);
            if forced || output_tokens > limit {
                (output_tokens, finish) = (limit, Finish::Length);
            }
        }
        let room = self.context_max().saturating_sub(prompt.tokens());
        if output_tokens > room {
            (output_tokens, finish) = (room, Finish::Length);
        }
        let prompt_tokens = prompt.tokens();
        let job =
            Job { block_hashes: prompt.block_hashes(), prompt_tokens, output_tokens: output_tokens.max(1) };
        let Ok(ticket) = self.ticker.submit(job) else {
            return reply.page(self.too_long(prompt_tokens)).await;
        };
        let usage = Usage { prompt: prompt_tokens, cached: 0, completion: 0 };
        let manner = self.manner(number, model, body, reply.fault);
        let voice: Box<dyn Voice> = match api {
            Api::Chat => Box::new(Chat::new(manner)),
            Api::Completions => Box::new(Chat::legacy(manner)),
            Api::Responses => Box::new(Responses::new(manner)),
            Api::Messages => Box::new(Messages::new(manner)),
            Api::Google => Box::new(Google::new(manner)),
        };
        let generation = Generation { ticket, voice, usage, finish, chance };
        if stream {
            self.say_streaming(reply, generation).await
        } else {
            self.say_whole(reply, generation).await
        }
    }

    fn manner(&self, number: u64, model: String, body: &Value, fault: Option<Fault>) -> Manner {
        let no_usage = fault == Some(Fault::NoUsage);
        let options = body.get("stream_options").filter(|options| options.is_object());
        let heeded = options.filter(|_| !self.quirks.has(Quirk::IgnoreStreamOptions) && !no_usage);
        let option =
            |name: &str, default| heeded.map(|o| o.get(name).and_then(Value::as_bool).unwrap_or(default));
        // `stream_options: {}` asks for usage: vLLM's default for the member is true.
        let asked = option("include_usage", true).unwrap_or(false);
        let in_finish = self.quirks.has(Quirk::UsageInFinish) && !no_usage;
        Manner {
            id: Chance::for_item(!self.seed, number).word(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            model,
            tool: forced_tool(body),
            usage_chunk: asked && !in_finish,
            usage_everywhere: asked && option("continuous_usage_stats", false).unwrap_or(false),
            usage_in_finish: in_finish,
            done: !self.quirks.has(Quirk::NoDone),
            no_usage,
        }
    }

    /// Longest context in tokens: what fits the KV memory alone.
    fn context_max(&self) -> usize {
        self.ticker.engine().context_max()
    }

    fn too_long(&self, tokens: usize) -> Page {
        let max = self.context_max();
        let why = format!(
            "This model's maximum context length is {max} tokens. However, your request has {tokens} input tokens."
        );
        error_page(400, "BadRequestError", &why)
    }
}

/// The tool that the request forces, by name or as the only way to answer.
fn forced_tool(body: &Value) -> Option<String> {
    if let Some(config) = body.pointer("/toolConfig/functionCallingConfig") {
        let first = body.pointer("/tools/0/functionDeclarations/0/name");
        let tool = config.pointer("/allowedFunctionNames/0").or(first);
        return tool?.as_str().filter(|_| config["mode"] == "ANY").map(str::to_owned);
    }
    let choice = body.get("tool_choice")?;
    let tool = body.get("tools")?.get(0)?;
    let named = choice.pointer("/function/name").or_else(|| choice.get("name"));
    let any = matches!(choice.as_str().or_else(|| choice.get("type")?.as_str()), Some("required" | "any"));
    let first = tool.pointer("/function/name").or_else(|| tool.get("name")).filter(|_| any);
    named.or(first)?.as_str().map(str::to_owned)
}

/// The model that a path of Google's names, and whether a stream is asked for.
fn google_path(path: &str) -> Option<(String, bool)> {
    let named = path.strip_prefix("/v1beta/models/").or_else(|| path.strip_prefix("/v1/models/"))?;
    let (model, end) = named.rsplit_once(':')?;
    let stream = match end {
        "generateContent" => false,
        "streamGenerateContent" => true,
        _ => return None,
    };
    Some((unescaped(model)?, stream))
}

/// A segment of a path without its percent-encoding.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first == b'%' {
            let (digits, behind) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = behind;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// An error in vLLM's shape, whose `code` is the status.
fn error_page(status: u16, kind: &str, message: &str) -> Page {
    let error = json!({"message": message, "type": kind, "param": null, "code": status});
    Page::json(status, &json!({"error": error}))
}

const WORK_PATHS: [&str; 8] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/rerank",
    "/v2/rerank",
    "/rerank",
];
