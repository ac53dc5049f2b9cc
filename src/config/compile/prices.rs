//! What the tokens of each model cost, at each of its backends.

use std::collections::BTreeMap;

use super::models::Names;
use super::{Source, file, row};
use crate::config::problem::Report;
use crate::plan::Model;
use crate::policy::glob;
use crate::policy::limits::price::{PRICE_MAX, Price};
use crate::units::{BackendId, ModelId};

/// Writes the prices into the models and their pools.
pub(super) fn compile(source: &Source<'_>, names: &Names, models: &mut [Model], report: &mut Report<'_>) {
    let rows: Vec<Priced<'_>> =
        source.file.price.iter().map(|(name, price)| Priced::new(source, name, price, report)).collect();
    for priced in &rows {
        if !names.keys().any(|model| glob::matches(priced.name, model)) {
            report.problem(&["price", priced.name], "fits no model and no alias");
        }
    }
    for model in models {
        let Some(priced) = of_model(model.id, names, &rows) else { continue };
        for member in &mut model.pool {
            member.price = priced.at(member.backend);
        }
        let dearest = |one: Price, other: Price| Price {
            input: one.input.max(other.input),
            cached: one.cached.max(other.cached),
            cache_write: one.cache_write.max(other.cache_write),
            output: one.output.max(other.output),
        };
        model.price = model.pool.iter().filter_map(|member| member.price).reduce(dearest);
    }
}

/// Prices by the names that the ledger has, for reports: also of models and backends that are no longer configured.
#[derive(Debug, Default)]
pub struct PriceList {
    rows: Vec<ListedPrice>,
    /// The names of each model beside its own.
    aliases: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
struct ListedPrice {
    name: String,
    price: Option<Price>,
    backends: BTreeMap<String, Option<Price>>,
}

impl PriceList {
    /// What a token of this model costs at this backend; `None` without a price. The same choice as for limits.
    pub fn price(&self, model: &str, backend: &str) -> Option<Price> {
        let own = || {
            std::iter::once(model).chain(self.aliases.get(model).into_iter().flatten().map(String::as_str))
        };
        let fits = |row: &&ListedPrice| own().any(|name| glob::matches(&row.name, name));
        let row =
            self.rows.iter().filter(fits).max_by_key(|row| (!row.name.contains('*'), row.name.len()))?;
        row.backends.get(backend).copied().unwrap_or(row.price)
    }
}

/// The prices of a file by name.
pub(super) fn list(source: &Source<'_>, report: &mut Report<'_>) -> PriceList {
    let names: Vec<&String> = source.file.backend.keys().collect();
    let rows = source.file.price.iter().map(|(name, written)| {
        let priced = Priced::new(source, name, written, report);
        let backends = priced.backends.iter().map(|(id, price)| (names[id.index()].clone(), *price));
        ListedPrice { name: name.clone(), price: priced.price, backends: backends.collect() }
    });
    let rows = rows.collect();
    let aliases = source.file.model.iter().map(|(name, model)| (name.clone(), model.aliases.clone()));
    PriceList { rows, aliases: aliases.collect() }
}

/// One table of prices, as compiled.
struct Priced<'a> {
    name: &'a str,
    price: Option<Price>,
    backends: Vec<(BackendId, Option<Price>)>,
}

impl<'a> Priced<'a> {
    fn new(source: &Source<'_>, name: &'a str, written: &file::Price, report: &mut Report<'_>) -> Self {
        let all = file::BackendPrice {
            input_per_million: Some(written.input_per_million),
            output_per_million: Some(written.output_per_million),
            cached_per_million: written.cached_per_million,
            cache_write_per_million: written.cache_write_per_million,
        };
        let mut backends = Vec::new();
        for (backend, own) in &written.backend {
            let path = ["price", name, "backend", backend];
            let merged = file::BackendPrice {
                input_per_million: own.input_per_million.or(all.input_per_million),
                output_per_million: own.output_per_million.or(all.output_per_million),
                cached_per_million: own.cached_per_million.or(all.cached_per_million),
                cache_write_per_million: own.cache_write_per_million.or(all.cache_write_per_million),
            };
            match row(&source.file.backend, backend) {
                Some(index) => backends.push((BackendId::new(index), price(&path, &merged, report))),
                None => report.problem(&path, format!("there is no [backend.{backend}]")),
            }
        }
        Self { name, price: price(&["price", name], &all, report), backends }
    }

    fn at(&self, backend: BackendId) -> Option<Price> {
        let own = self.backends.iter().find(|(id, _)| *id == backend);
        own.map_or(self.price, |(_, price)| *price)
    }
}

/// The table that fits a model best: by its name or an alias, else by the longest pattern.
fn of_model<'a>(model: ModelId, names: &Names, rows: &'a [Priced<'a>]) -> Option<&'a Priced<'a>> {
    let own = || names.iter().filter(|(_, id)| **id == model).map(|(name, _)| &**name);
    let fits = |priced: &&Priced<'_>| own().any(|name| glob::matches(priced.name, name));
    rows.iter().filter(fits).max_by_key(|priced| (!priced.name.contains('*'), priced.name.len()))
}

fn price(path: &[&str], written: &file::BackendPrice, report: &mut Report<'_>) -> Option<Price> {
    let mut of = |key: &str, price: Option<f64>| {
        let found = Price::per_million(price?);
        let text = || format!("is {}; expected 0 to {PRICE_MAX}", price.unwrap_or_default());
        report.take(&[path, &[key]].concat(), found.ok_or_else(text))
    };
    let input = of("input_per_million", written.input_per_million);
    let output = of("output_per_million", written.output_per_million);
    let cached = of("cached_per_million", written.cached_per_million).or(input);
    let cache_write = of("cache_write_per_million", written.cache_write_per_million).or(input);
    Some(Price { input: input?, cached: cached?, cache_write: cache_write?, output: output? })
}
