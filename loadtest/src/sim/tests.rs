use super::*;

fn quick(workload: Workload, rule: &str) -> Row {
    let options = Options {
        workload: vec![workload],
        rule: vec![rule.to_owned()],
        load: vec![0.5],
        engines: 4,
        shards: 2,
        seeds: 1,
        seconds: 20.0,
        warm_up: 5.0,
        slow: 0,
        kv_tokens: 400_000,
    };
    run(&options, |_| {}).unwrap().remove(0)
}

#[test]
fn one_seed_gives_one_result() {
    let (one, other) = (quick(Workload::Chat, "cost"), quick(Workload::Chat, "cost"));
    assert_eq!(one.line(), other.line());
}

#[test]
fn a_rule_that_knows_prefixes_hits_the_cache_and_waits_less() {
    let (blind, knows) = (quick(Workload::Agents, "round_robin"), quick(Workload::Agents, "cost"));
    assert!(knows.hit_ratio > blind.hit_ratio + 0.1, "{} {}", knows.hit_ratio, blind.hit_ratio);
    assert!(knows.first_token_ms[0] * 2.0 < blind.first_token_ms[0], "{knows:?} {blind:?}");
}

#[test]
fn every_rule_runs_and_gives_all_counts_back() {
    for (name, _) in RULES {
        let row = quick(Workload::Siblings, name);
        assert!(row.completed > 0.0, "{name}");
    }
}

#[test]
fn an_unknown_rule_is_refused_with_the_known_ones() {
    let error = rules(&["fastest".to_owned()]).unwrap_err();
    assert!(error.contains("'fastest'") && error.contains("least_request"), "{error}");
}
