//! LiteLLM's proxy configuration (its page "Overview" of the proxy's config, and the list of all settings).
//!
//! Deployments of one provider, address and credential become one backend; those of one `model_name` the pool of one model.
//! Secrets are never copied: a literal key becomes a reference to the environment.

mod settings;

use toml::{Table, Value};
use yaml_rust2::{Yaml, YamlLoader};

use super::{Imported, kinds};

/// Environment variables by name.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads it. `environment`: for addresses that stand in it.
///
/// # Errors
/// It is no YAML, or has no models.
pub(super) fn import(text: &str, environment: Environment<'_>) -> Result<Imported, String> {
    let documents = YamlLoader::load_from_str(text).map_err(|error| format!("is no YAML: {error}"))?;
    let root = documents.first().and_then(Yaml::as_hash).ok_or("is no mapping; expected model_list")?;
    let mut import = Import {
        environment,
        top: Table::new(),
        backends: Vec::new(),
        models: Vec::new(),
        prices: Table::new(),
        unmatched: Vec::new(),
    };
    for (key, value) in root {
        match key.as_str().unwrap_or_default() {
            "model_list" => import.model_list(value),
            "router_settings" | "litellm_settings" | "general_settings" => {}
            other => import.unmatched(other, "there is nothing like it"),
        }
    }
    if import.models.is_empty() {
        return Err("has no model that can be served; expected model_list".to_owned());
    }
    for (key, value) in root {
        let section = key.as_str().unwrap_or_default();
        if ["router_settings", "litellm_settings", "general_settings"].contains(&section) {
            import.settings(section, value);
        }
    }
    Ok(import.finish())
}

struct Import<'a> {
    environment: Environment<'a>,
    /// What stands outside of the tables below.
    top: Table,
    backends: Vec<(String, Table)>,
    models: Vec<(String, Model)>,
    prices: Table,
    unmatched: Vec<String>,
}

#[derive(Default)]
struct Model {
    pool: Vec<Value>,
    more: Table,
}

impl Import<'_> {
    fn unmatched(&mut self, place: impl std::fmt::Display, why: &str) {
        self.unmatched.push(format!("{place}: {why}"));
    }

    fn model_list(&mut self, list: &Yaml) {
        for (index, entry) in list.as_vec().into_iter().flatten().enumerate() {
            let place = format!("model_list[{index}]");
            self.deployment(&place, entry);
        }
    }

    fn deployment(&mut self, place: &str, entry: &Yaml) {
        let parameters = &entry["litellm_params"];
        let (Some(name), Some(model)) = (entry["model_name"].as_str(), parameters["model"].as_str()) else {
            return self.unmatched(place, "it has no model_name or no litellm_params.model");
        };
        let Some((kind, own)) = kinds::of(model) else {
            return self.unmatched(
                format!("{place}.litellm_params.model"),
                &format!("no kind of backend calls {model}"),
            );
        };
        let (kind, mut backend) = self.backend(place, kind, parameters);
        backend.insert("kind".into(), kind.clone().into());
        let backend = self.name_of(&kind, backend);
        let mut member = Table::new();
        member.insert("name".into(), backend.into());
        if own != name {
            member.insert("model".into(), own.into());
        }
        if let Some(weight) = parameters["weight"].as_i64() {
            member.insert("weight".into(), weight.into());
        }
        let pricing = [("litellm_params", parameters), ("model_info", &entry["model_info"])];
        let price = pricing.iter().fold(Table::new(), |price, (_, table)| with_prices(price, table));
        match ["input_per_million", "output_per_million"].map(|key| price.contains_key(key)) {
            [true, true] => _ = self.prices.insert(name.into(), price.into()),
            [false, false] => {}
            _ => self.unmatched(place, "a price needs the cost of both input and output"),
        }
        let (response, first_token) =
            (seconds(&parameters["timeout"]), seconds(&parameters["stream_timeout"]));
        let model = self.model(name);
        model.pool.push(member.into());
        for (key, time) in [("response", response), ("first_token", first_token)] {
            if let Some(time) = time {
                let timeouts = model.more.entry("timeouts").or_insert_with(|| Table::new().into());
                timeouts.as_table_mut().map(|timeouts| timeouts.insert(key.into(), time.into()));
            }
        }
        self.note_rest(place, entry, parameters);
    }

    /// The backend of a deployment, without its kind, which an address may change.
    fn backend(&mut self, place: &str, kind: &str, parameters: &Yaml) -> (String, Table) {
        let (mut backend, mut kind) = (Table::new(), kind.to_owned());
        let base = ["api_base", "base_url"].iter().find_map(|name| parameters[*name].as_str());
        if let Some(base) = base.and_then(|base| self.address(place, base)) {
            let base = base.trim_end_matches('/');
            match kind.as_str() {
                "azure" => {
                    let own = base.split("/openai").next().unwrap_or(base);
                    backend.insert("api_base".into(), format!("{own}/openai/v1").into());
                }
                "openai" if !base.contains("api.openai.com") => {
                    kind = "openai-compatible".into();
                    backend.insert("api_base".into(), base.into());
                }
                _ if kinds::is_engine(&kind) => _ = backend.insert("url".into(), base.into()),
                _ => _ = backend.insert("api_base".into(), base.into()),
            }
        }
        for (theirs, ours) in [
            ("api_key", "api_key"),
            ("aws_access_key_id", "access_key_id"),
            ("aws_secret_access_key", "secret_access_key"),
            ("aws_session_token", "session_token"),
        ] {
            if let Some(secret) = parameters[theirs].as_str() {
                let source = self.secret(&format!("{place}.litellm_params.{theirs}"), secret, &kind, ours);
                backend.insert(ours.into(), source);
            }
        }
        if let Some(region) = parameters["aws_region_name"].as_str() {
            backend.insert("region".into(), region.into());
        }
        (kind, backend)
    }

    /// An address, which may stand in the environment.
    fn address(&mut self, place: &str, base: &str) -> Option<String> {
        let Some(name) = base.strip_prefix("os.environ/") else { return Some(base.to_owned()) };
        let found = (self.environment)(name);
        if found.is_none() {
            let place = format!("{place}.litellm_params.api_base");
            self.unmatched(
                place,
                &format!("{name} is not set here, and an address has to stand in the file"),
            );
        }
        found
    }

    fn secret(&mut self, place: &str, secret: &str, kind: &str, ours: &str) -> Value {
        let name = match secret.strip_prefix("os.environ/") {
            Some(name) => name.to_owned(),
            None => {
                let name = format!("{kind}_{ours}").to_uppercase().replace('-', "_");
                self.unmatched(
                    place,
                    &format!("a secret does not stand in the file; put it into the environment as {name}"),
                );
                name
            }
        };
        Table::from_iter([("env".to_owned(), Value::from(name))]).into()
    }

    /// The name of a backend like this one: of the one that is there, or a new one.
    fn name_of(&mut self, kind: &str, backend: Table) -> String {
        if let Some((name, _)) = self.backends.iter().find(|(_, one)| *one == backend) {
            return name.clone();
        }
        let is_taken = |name: &str| self.backends.iter().any(|(one, _)| one == name);
        let mut name = kind.to_owned();
        for number in 2.. {
            if !is_taken(&name) {
                break;
            }
            name = format!("{kind}-{number}");
        }
        self.backends.push((name.clone(), backend));
        name
    }

    fn model(&mut self, name: &str) -> &mut Model {
        let at = self.models.iter().position(|(one, _)| one == name).unwrap_or_else(|| {
            self.models.push((name.to_owned(), Model::default()));
            self.models.len() - 1
        });
        &mut self.models[at].1
    }

    /// What of a deployment is not in the configuration.
    fn note_rest(&mut self, place: &str, entry: &Yaml, parameters: &Yaml) {
        for (section, table) in [("litellm_params", parameters), ("model_info", &entry["model_info"])] {
            for key in keys(table)
                .filter(|key| !KNOWN.contains(key) && !PRICES.iter().any(|(theirs, _)| theirs == key))
            {
                let why = match key {
                    "rpm" | "tpm" => {
                        "limits are those of keys, teams and budgets; a backend's own 429 is respected"
                    }
                    "order" => {
                        "a pool has no order: make a model of its own for it, and name that in fallbacks"
                    }
                    "api_version" => "Azure's v1 API, which is called, needs none",
                    "max_retries" | "num_retries" => "attempts are counted for all models: [limits] attempts",
                    _ => "there is nothing like it",
                };
                self.unmatched(format!("{place}.{section}.{key}"), why);
            }
        }
    }

    fn finish(self) -> Imported {
        let mut toml = self.top;
        let backends = self.backends.into_iter().map(|(name, table)| (name, Value::from(table)));
        toml.insert("backend".into(), Table::from_iter(backends).into());
        let models = self.models.into_iter().map(|(name, Model { pool, mut more })| {
            more.insert("backends".into(), pool.into());
            (name, Value::from(more))
        });
        toml.insert("model".into(), Table::from_iter(models).into());
        if !self.prices.is_empty() {
            toml.insert("price".into(), self.prices.into());
        }
        Imported { toml: toml.to_string(), unmatched: self.unmatched }
    }
}

/// Members of a deployment that are in the configuration, or say nothing that it needs.
const KNOWN: [&str; 16] = [
    "model",
    "api_base",
    "base_url",
    "api_key",
    "weight",
    "timeout",
    "stream_timeout",
    "aws_region_name",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "custom_llm_provider",
    "id",
    "mode",
    "base_model",
    "description",
];

/// Prices of a token, and what they are called here, of a million.
const PRICES: [(&str, &str); 4] = [
    ("input_cost_per_token", "input_per_million"),
    ("output_cost_per_token", "output_per_million"),
    ("cache_read_input_token_cost", "cached_per_million"),
    ("cache_creation_input_token_cost", "cache_write_per_million"),
];

fn with_prices(mut price: Table, table: &Yaml) -> Table {
    for (theirs, ours) in PRICES {
        if let Some(cost) = number(&table[theirs]) {
            // In billionths, so that 0.0000025 is 2.5 and not 2.4999999.
            price.insert(ours.into(), ((cost * 1e12).round() / 1e6).into());
        }
    }
    price
}

fn number(value: &Yaml) -> Option<f64> {
    value.as_f64().or_else(|| value.as_i64().map(|whole| whole as f64))
}

/// Seconds, as a time of the configuration.
fn seconds(value: &Yaml) -> Option<String> {
    let seconds = number(value).filter(|seconds| (0.001..1e7).contains(seconds))?;
    Some(match seconds.fract() == 0.0 {
        true => format!("{seconds}s"),
        false => format!("{}ms", (seconds * 1e3).round()),
    })
}

fn keys(table: &Yaml) -> impl Iterator<Item = &str> {
    table.as_hash().into_iter().flatten().filter_map(|(key, _)| key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Imported {
        import(text, &|name| (name == "VLLM").then(|| "http://10.0.0.9:8000/v1".to_owned()))
            .expect("a configuration")
    }

    const POOL: &str = "
model_list:
  - model_name: llama
    litellm_params: {model: hosted_vllm/meta/llama-3, api_base: 'http://10.0.0.1:8000/v1', weight: 2, rpm: 60}
  - model_name: llama
    litellm_params: {model: hosted_vllm/meta/llama-3, api_base: os.environ/VLLM}
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, timeout: 30, stream_timeout: 2.5}
    model_info: {input_cost_per_token: 0.0000025, output_cost_per_token: 1e-05}
  - model_name: azure-gpt
    litellm_params: {model: azure/my-gpt, api_base: 'https://x.openai.azure.com/', api_key: sk-secret, api_version: '2024-02-01'}
  - model_name: 'anthropic/*'
    litellm_params: {model: 'anthropic/*', api_key: os.environ/ANTHROPIC_API_KEY}
  - model_name: vertex
    litellm_params: {model: vertex_ai/gemini-pro}
router_settings:
  routing_strategy: simple-shuffle
  num_retries: 2
  fallbacks: [{llama: [gpt-4o, absent]}]
  model_group_alias: {default: llama}
litellm_settings: {drop_params: true, callbacks: [langfuse]}
general_settings: {master_key: sk-1234}
";

    #[test]
    fn deployments_become_backends_and_pools() {
        let Imported { toml, unmatched } = imported(POOL);
        let toml: Table = toml.parse().expect("TOML");
        let root = Value::from(toml);
        let at = |path: &str| {
            path.split('/').fold(&root, |value, key| {
                let next = match key.parse::<usize>() {
                    Ok(index) => value.get(index),
                    Err(_) => value.get(key),
                };
                next.unwrap_or_else(|| panic!("no {path} in {root}"))
            })
        };
        assert_eq!(at("backend/vllm/url").as_str(), Some("http://10.0.0.1:8000/v1"));
        assert_eq!(at("backend/vllm-2/url").as_str(), Some("http://10.0.0.9:8000/v1"));
        assert_eq!(at("backend/azure/api_base").as_str(), Some("https://x.openai.azure.com/openai/v1"));
        assert_eq!(at("backend/openai/api_key/env").as_str(), Some("OPENAI_API_KEY"));
        assert_eq!(at("model/llama/backends/0/weight").as_integer(), Some(2));
        assert_eq!(at("model/llama/backends/1/model").as_str(), Some("meta/llama-3"));
        assert_eq!(at("model/llama/fallbacks/0").as_str(), Some("gpt-4o"));
        assert_eq!(at("model/llama/aliases/0").as_str(), Some("default"));
        assert_eq!(at("model/llama/policy").as_str(), Some("weighted"));
        assert_eq!(at("model/gpt-4o/timeouts/response").as_str(), Some("30s"));
        assert_eq!(at("model/gpt-4o/timeouts/first_token").as_str(), Some("2500ms"));
        assert_eq!(at("price/gpt-4o/input_per_million").as_float(), Some(2.5));
        assert_eq!(at("price/gpt-4o/output_per_million").as_float(), Some(10.0));
        assert_eq!(at("limits/attempts").as_integer(), Some(3));
        assert_eq!(at("require_keys").as_bool(), Some(true));
        let told = unmatched.join("\n");
        for place in [
            "model_list[0].litellm_params.rpm",
            "model_list[3].litellm_params.api_key",
            "model_list[3].litellm_params.api_version",
            "model_list[5].litellm_params.model",
            "'absent' is no model",
            "litellm_settings.callbacks",
            "general_settings.master_key",
        ] {
            assert!(told.contains(place), "{place} in {told}");
        }
        assert_eq!(unmatched.len(), 7, "{told}");
    }

    #[test]
    fn no_secret_is_copied() {
        let Imported { toml, unmatched } = imported(POOL);
        for secret in ["sk-secret", "sk-1234"] {
            assert!(!toml.contains(secret) && !unmatched.join("\n").contains(secret), "{secret}");
        }
        assert!(toml.contains("AZURE_API_KEY"), "{toml}");
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for text in [
            "",
            "- 1",
            "model_list: []",
            "{",
            "model_list: [{model_name: a, litellm_params: {model: nobody/b}}]",
        ] {
            assert!(import(text, &|_| None).is_err(), "{text}");
        }
    }
}
