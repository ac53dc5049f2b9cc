//! The sections beside the list of models: router, library and general settings.

use toml::{Table, Value};
use yaml_rust2::Yaml;

use super::{Import, seconds};

impl Import<'_> {
    /// Takes over one of the sections.
    pub(super) fn settings(&mut self, section: &str, settings: &Yaml) {
        for (key, value) in settings.as_hash().into_iter().flatten() {
            let key = key.as_str().unwrap_or_default();
            let place = format!("{section}.{key}");
            match key {
                "fallbacks" => self.fallbacks(&place, value),
                "context_window_fallbacks" => {
                    self.fallbacks(&place, value);
                    self.unmatched(
                        &place,
                        "one list of fallbacks is for every failure: these come last in it",
                    );
                }
                "model_group_alias" => self.aliases(&place, value),
                "routing_strategy" => self.strategy(&place, value.as_str().unwrap_or_default()),
                "num_retries" => match value.as_i64() {
                    Some(count) => self.put("limits", "attempts", (count + 1).into()),
                    None => self.unmatched(&place, "expected a number"),
                },
                "request_timeout" | "timeout" => match seconds(value) {
                    Some(time) => self.put("timeouts", "response", time.into()),
                    None => self.unmatched(&place, "expected seconds"),
                },
                "stream_timeout" => match seconds(value) {
                    Some(time) => self.put("timeouts", "first_token", time.into()),
                    None => self.unmatched(&place, "expected seconds"),
                },
                "drop_params" => {
                    let on_loss = if value.as_bool() == Some(false) { "refuse" } else { "drop" };
                    self.top.insert("on_loss".into(), on_loss.into());
                }
                "cache" => self.put("cache", "enabled", value.as_bool().unwrap_or(false).into()),
                "cache_params" => match seconds(&value["ttl"]) {
                    Some(time) => self.put("cache", "ttl", time.into()),
                    None => self.unmatched(&place, "the cache is this gateway's own"),
                },
                "master_key" => {
                    self.top.insert("require_keys".into(), true.into());
                    self.unmatched(&place, "make keys for clients with `ringway key new`, and a token for operators ([admin] token)");
                }
                "database_url" => {
                    self.unmatched(&place, "usage and keys are kept in a file of this gateway's ([store])")
                }
                "redis_host" | "redis_port" | "redis_password" | "redis_url" => {
                    self.unmatched(&place, "several gateways share their limits by [shared]");
                }
                "allowed_fails" | "cooldown_time" => {
                    self.unmatched(&place, "breakers have times of their own, and need no setting");
                }
                _ => self.unmatched(&place, "there is nothing like it"),
            }
        }
    }

    fn put(&mut self, table: &str, key: &str, value: Value) {
        let table = self.top.entry(table).or_insert_with(|| Table::new().into());
        table.as_table_mut().map(|table| table.insert(key.into(), value));
    }

    /// `[{model: [fallback, ..]}, ..]`.
    fn fallbacks(&mut self, place: &str, list: &Yaml) {
        for (name, fallbacks) in list.as_vec().into_iter().flatten().filter_map(Yaml::as_hash).flatten() {
            let name = name.as_str().unwrap_or_default();
            for fallback in fallbacks.as_vec().into_iter().flatten().filter_map(Yaml::as_str) {
                let is_there = |name: &str| self.models.iter().any(|(one, _)| one == name);
                if !is_there(name) || !is_there(fallback) {
                    self.unmatched(place, &format!("'{name}' or '{fallback}' is no model of the list"));
                    continue;
                }
                let list =
                    self.model(name).more.entry("fallbacks").or_insert_with(|| Value::Array(Vec::new()));
                if let Some(list) = list.as_array_mut().filter(|list| !list.contains(&fallback.into())) {
                    list.push(fallback.into());
                }
            }
        }
    }

    fn aliases(&mut self, place: &str, aliases: &Yaml) {
        for (alias, target) in aliases.as_hash().into_iter().flatten() {
            let (alias, target) =
                (alias.as_str().unwrap_or_default(), target.as_str().or(target["model"].as_str()));
            match target.filter(|target| self.models.iter().any(|(one, _)| one == target)) {
                Some(target) => {
                    let list =
                        self.model(target).more.entry("aliases").or_insert_with(|| Value::Array(Vec::new()));
                    list.as_array_mut().into_iter().for_each(|list| list.push(alias.into()));
                }
                None => self.unmatched(place, &format!("'{alias}' leads to no model of the list")),
            }
        }
    }

    fn strategy(&mut self, place: &str, strategy: &str) {
        let policy = match strategy {
            "simple-shuffle" => "weighted",
            "least-busy" => "least_request",
            "latency-based-routing" => return, // what this gateway does anyway
            "usage-based-routing" | "usage-based-routing-v2" => "least_request",
            _ => return self.unmatched(place, &format!("there is no policy like '{strategy}'")),
        };
        for (_, model) in &mut self.models {
            model.more.insert("policy".into(), policy.into());
        }
    }
}
