//! Work that only reads: embeddings and reranking.

use super::{Server, error_page};
use crate::chance::Chance;
use crate::gpusim::engine::Job;
use crate::gpusim::quirk::Quirk;
use crate::gpusim::reply::{Ending, Page, Reply};
use crate::gpusim::text::Prompt;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

impl Server {
    /// `/v1/embeddings`, as floats or base64 of little-endian f32.
    pub(super) async fn embeddings(&self, reply: Reply<'_>, body: &Value, model: &str) -> Ending {
        let Some(input) = body.get("input").filter(|input| !input.is_null()) else {
            return reply.page(error_page(400, "BadRequestError", "member `input` is missing")).await;
        };
        // A list of numbers is one prompt as token ids; any other list is many prompts.
        let inputs: Vec<&Value> = match input {
            Value::Array(items) if !items.iter().all(Value::is_number) => items.iter().collect(),
            one => vec![one],
        };
        let size = body.get("dimensions").and_then(Value::as_u64).unwrap_or(VECTOR_SIZE).min(VECTOR_SIZE_MAX);
        let base64 = body.get("encoding_format").and_then(Value::as_str) == Some("base64")
            && !self.quirks.has(Quirk::FloatVectors);
        let prompts: Vec<Prompt> = inputs.into_iter().map(Prompt::of_value).collect();
        let reply = match self.read_all(reply, &prompts).await {
            Ok(reply) => reply,
            Err(ending) => return ending,
        };
        let data = prompts.iter().enumerate().map(|(index, prompt)| {
            let vector = vector(prompt.fingerprint(), size);
            let embedding = if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Value::from(STANDARD.encode(bytes))
            } else {
                Value::from(vector)
            };
            json!({"index": index, "object": "embedding", "embedding": embedding})
        });
        let data: Vec<Value> = data.collect();
        let tokens: usize = prompts.iter().map(Prompt::tokens).sum();
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0});
        let answer = json!({"id": format!("embd-{:016x}", self.answers.get()), "object": "list", "created": 0,
            "model": model, "data": data, "usage": usage});
        reply.page(Page::json(200, &answer)).await
    }

    /// `/rerank` in its three spellings.
    pub(super) async fn rerank(&self, reply: Reply<'_>, body: &Value, model: &str) -> Ending {
        let (Some(query), Some(documents)) =
            (body.get("query"), body.get("documents").and_then(Value::as_array))
        else {
            return reply
                .page(error_page(400, "BadRequestError", "members `query` and `documents` are needed"))
                .await;
        };
        let prompts: Vec<Prompt> =
            documents.iter().map(|document| Prompt::of_value(&json!([query, document]))).collect();
        let reply = match self.read_all(reply, &prompts).await {
            Ok(reply) => reply,
            Err(ending) => return ending,
        };
        let scores = prompts.iter().map(|prompt| Chance::new(prompt.fingerprint()).share());
        let mut order: Vec<(usize, f64)> = scores.enumerate().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        let top =
            body.get("top_n").and_then(Value::as_u64).filter(|n| *n > 0).map_or(order.len(), |n| n as usize);
        let results: Vec<Value> = order
            .iter()
            .take(top)
            .map(|(index, score)| {
                let document = match &documents[*index] {
                    Value::String(text) => json!({"text": text}),
                    other => other.clone(),
                };
                json!({"index": index, "document": document, "relevance_score": score})
            })
            .collect();
        let tokens: usize = prompts.iter().map(Prompt::tokens).sum();
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        let id = format!("rerank-{:016x}", self.answers.get());
        reply
            .page(Page::json(200, &json!({"id": id, "model": model, "usage": usage, "results": results})))
            .await
    }

    /// Lets the engine read every prompt, or ends the answer.
    async fn read_all<'a>(&self, reply: Reply<'a>, prompts: &[Prompt]) -> Result<Reply<'a>, Ending> {
        self.answers.set(self.answers.get() + 1);
        let mut tickets = Vec::new();
        for prompt in prompts {
            let prompt_tokens = prompt.tokens();
            let job = Job { block_hashes: prompt.block_hashes(), prompt_tokens, output_tokens: 0 };
            match self.ticker.submit(job) {
                Ok(ticket) => tickets.push(ticket),
                Err(_) => return Err(reply.page(self.too_long(prompt_tokens)).await),
            }
        }
        let read = async {
            for ticket in &mut tickets {
                while ticket.next().await.is_some() {}
            }
        };
        match reply.wire.unless_gone(read).await {
            Some(()) => Ok(reply),
            None => Err(Ending::ClientGone),
        }
    }
}

/// A unit vector fixed by `seed`.
fn vector(seed: u64, size: u64) -> Vec<f32> {
    let mut chance = Chance::new(seed);
    let raw: Vec<f64> = (0..size).map(|_| chance.share() * 2.0 - 1.0).collect();
    let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    raw.iter().map(|x| (x / norm) as f32).collect()
}

const VECTOR_SIZE: u64 = 384;
const VECTOR_SIZE_MAX: u64 = 16_384;
