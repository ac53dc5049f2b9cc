use super::*;
use crate::chance::Chance;

fn speed() -> Speed {
    Speed {
        prefill_rate: 1000.0,
        step: Duration::from_millis(10),
        stream_step: Duration::from_millis(1),
        kv_tokens: 64 * 100,
        batch_tokens_max: 10_000,
        running_max: 256,
        prefix_cache: true,
    }
}

/// A prompt whose blocks are named by `name` and their place.
fn job(name: u64, prompt_tokens: usize, output_tokens: usize) -> Job {
    let block_hashes = (0..prompt_tokens / BLOCK_TOKENS).map(|block| name * 1000 + block as u64).collect();
    Job { block_hashes, prompt_tokens, output_tokens }
}

fn run_out(engine: &mut Engine) -> Vec<Step> {
    let mut steps = Vec::new();
    while !engine.is_idle() {
        steps.push(engine.step());
        assert!(steps.len() < 100_000, "the engine is stuck");
    }
    steps
}

#[test]
fn prefill_takes_tokens_over_rate() {
    let mut engine = Engine::new(speed());
    engine.add(job(1, 500, 1)).unwrap();
    let step = engine.step();
    assert_eq!(step.duration, Duration::from_millis(10 + 500));
    assert_eq!(step.progress.len(), 1);
    assert!(step.progress[0].last);
}

#[test]
fn token_budget_cuts_a_prefill_into_chunks() {
    let mut engine = Engine::new(Speed { batch_tokens_max: 100, ..speed() });
    let id = engine.add(job(1, 250, 1)).unwrap();
    let steps = run_out(&mut engine);
    let ready: Vec<usize> = steps.iter().map(|step| step.progress.len()).collect();
    assert_eq!(ready, [0, 0, 1]);
    assert_eq!(steps[2].progress[0].job, id);
    assert_eq!(steps[2].duration, Duration::from_millis(10 + 50));
}

#[test]
fn each_stream_in_the_batch_slows_the_step() {
    let mut engine = Engine::new(speed());
    for name in 0..8 {
        engine.add(job(name, 1, 3)).unwrap();
    }
    engine.step();
    assert_eq!(engine.step().duration, Duration::from_millis(10 + 8));
}

#[test]
fn full_kv_memory_makes_jobs_wait() {
    let mut engine = Engine::new(Speed { kv_tokens: 64 * 4, ..speed() });
    engine.add(job(1, 130, 4)).unwrap();
    engine.add(job(2, 130, 4)).unwrap();
    engine.step();
    assert_eq!((engine.running(), engine.waiting()), (1, 1));
    assert_eq!(engine.kv_usage(), 0.75);
    let finished = run_out(&mut engine).iter().flat_map(|s| &s.progress).filter(|p| p.last).count();
    assert_eq!(finished, 2);
    assert_eq!(engine.kv_usage(), 0.0);
}

#[test]
fn prefix_hit_shortens_prefill() {
    let mut engine = Engine::new(speed());
    engine.add(job(1, 640, 1)).unwrap();
    let cold = engine.step();
    engine.add(job(1, 640, 1)).unwrap();
    let warm = engine.step();
    assert_eq!(cold.progress[0].cached_tokens, 0);
    assert_eq!(warm.progress[0].cached_tokens, 576, "all but the last block, which yields the first token");
    assert_eq!(cold.duration - warm.duration, Duration::from_millis(576));
    assert_eq!(engine.totals().prefix_hits, 576);
}

#[test]
fn lru_evicts_the_prefix_not_used_longest() {
    let mut engine = Engine::new(Speed { kv_tokens: 64 * 10, ..speed() });
    for name in [1, 2, 1, 3] {
        engine.add(job(name, 64 * 4, 1)).unwrap();
        run_out(&mut engine);
    }
    engine.add(job(1, 64 * 4, 1)).unwrap();
    assert_eq!(engine.step().progress[0].cached_tokens, 192, "1 was used again after 2, so it is still here");
    engine.add(job(2, 64 * 4, 1)).unwrap();
    assert!(engine.step().progress[0].cached_tokens < 192, "2 gave room to 3");
}

#[test]
fn abort_frees_kv_memory_and_lets_the_next_one_in() {
    let mut engine = Engine::new(Speed { kv_tokens: 64 * 4, ..speed() });
    let first = engine.add(job(1, 190, 50)).unwrap();
    engine.add(job(2, 190, 50)).unwrap();
    engine.step();
    assert!(engine.abort(first));
    assert!(!engine.abort(first));
    engine.step();
    assert_eq!((engine.running(), engine.waiting()), (1, 0));
}

#[test]
fn growth_without_room_preempts_the_youngest_and_it_still_finishes() {
    let mut engine = Engine::new(Speed { kv_tokens: 64 * 4, ..speed() });
    let old = engine.add(job(1, 60, 100)).unwrap();
    let young = engine.add(job(2, 60, 100)).unwrap();
    let steps = run_out(&mut engine);
    let done: Vec<Progress> = steps.into_iter().flat_map(|s| s.progress).filter(|p| p.last).collect();
    assert_eq!(done.iter().map(|p| (p.job, p.generated)).collect::<Vec<_>>(), [(old, 100), (young, 100)]);
    assert!(engine.totals().preemptions >= 1);
    assert_eq!(engine.totals().generated_tokens, 200, "a token is generated once even when computed again");
}

#[test]
fn job_that_outgrows_all_memory_ends_early() {
    let mut engine = Engine::new(Speed { kv_tokens: 64 * 2, ..speed() });
    engine.add(job(1, 100, 1000)).unwrap();
    let last = *run_out(&mut engine).last().unwrap().progress.last().unwrap();
    assert!(last.last && last.generated < 40, "{last:?}");
    assert_eq!(engine.add(job(2, 200, 1)), Err(TooLong));
}

#[test]
fn job_without_output_ends_with_its_prefill() {
    let mut engine = Engine::new(speed());
    engine.add(job(1, 100, 0)).unwrap();
    let step = engine.step();
    assert_eq!((step.progress[0].generated, step.progress[0].last), (0, true));
    assert!(engine.is_idle());
}

#[test]
fn one_seed_repeats_exactly_and_memory_comes_back() {
    let run = |seed| {
        let mut chance = Chance::new(seed);
        let mut engine = Engine::new(Speed { kv_tokens: 64 * 40, batch_tokens_max: 256, ..speed() });
        let mut log = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..400 {
            if chance.share() < 0.3 {
                let job = job(chance.below(9), 1 + chance.below(900) as usize, chance.below(60) as usize);
                ids.push(engine.add(job).unwrap());
            }
            if chance.share() < 0.05 && !ids.is_empty() {
                engine.abort(ids[chance.below(ids.len() as u64) as usize]);
            }
            let step = engine.step();
            log.push((step.duration, step.progress));
        }
        run_out(&mut engine);
        assert_eq!(engine.kv_usage(), 0.0, "seed {seed}");
        (log, engine.totals())
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
}
